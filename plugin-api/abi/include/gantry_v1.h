/* gantry_v1.h: stage ABI 1. Frozen; a change here is ABI 2. 64-bit little-endian. C99, C++17.
 * Threads  [any] any thread | [one] one call at a time per instance | [par] as [one], unless plugin.toml says concurrency = "parallel".
 * States   create -> created; prepare -> ready; begin -> open (one case; cohort: one run); process* ; end -> ready; destroy when idle.
 * Lifetime Host memory passed to a call is valid until that call returns (checkpoint bytes: until destroy returns).
 *          Pointers a plugin stores in an out item stay valid until `end` returns. Nobody frees the other side's memory. Inputs are
 *          read-only and never alias outputs. No exception, panic or longjmp crosses. Plugin threads are idle when a call returns.
 * Text     UTF-8, not NUL-terminated; ptr may be NULL only if len is 0. JSON is RFC 8259, no duplicate keys. stdout is the host's. */
#ifndef GANTRY_V1_H
#define GANTRY_V1_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#if defined(_WIN32)
#define GANTRY_EXPORT __declspec(dllexport)
#else
#define GANTRY_EXPORT __attribute__((visibility("default")))
#endif
#define GANTRY_ABI_MAJOR 1u
#define GANTRY_ABI_MINOR 0u                     /* shown, never compared */

typedef struct gantry_str_v1 { const char *ptr; uint64_t len; } gantry_str_v1;      /* text or bytes */

enum {  /* status: int32_t; the effect on the case is fixed; an unknown value is read as INTERNAL */
    GANTRY_OK = 0, GANTRY_CANCELLED = 1,        /* stopped because cancelled() said so */
    GANTRY_PENDING = 2,                         /* a person must answer: request emitted, node is run again with the answer */
    GANTRY_BAD_PARAMS = -1,                     /* create, prepare: configuration refused (exit 2) */
    GANTRY_BAD_INPUT = -2,                      /* this case's data: quarantined */
    GANTRY_UNSUPPORTED = -3,                    /* legal, not implemented: case failed */
    GANTRY_RESOURCE = -4,                       /* memory or device: host may repeat with a smaller batch, then fails the case */
    GANTRY_SERVICE = -5,                        /* a host service failed: host may repeat if effects allow it */
    GANTRY_BAD_WEIGHTS = -6,                    /* checkpoint malformed (exit 4) */
    GANTRY_INTERNAL = -7                        /* bug or caught panic: case failed, instance destroyed and made anew */
};
/* kinds of item; ABSENT is what a stage writes in begin into the item of an `optional` output that this case does not have */
enum { GANTRY_ABSENT = 0, GANTRY_IMAGE = 1, GANTRY_LABELS = 2, GANTRY_HEADERS = 3, GANTRY_RECORD = 4, GANTRY_TABLE = 5, GANTRY_FILE = 6 };
enum {  /* dtype = DLPack's {code, bits, lanes = 1} as one little-endian word */
    GANTRY_I8 = 0x10800, GANTRY_I16 = 0x11000, GANTRY_I32 = 0x12000, GANTRY_I64 = 0x14000,
    GANTRY_U8 = 0x10801, GANTRY_U16 = 0x11001, GANTRY_U32 = 0x12001,
    GANTRY_F16 = 0x11002, GANTRY_F32 = 0x12002, GANTRY_F64 = 0x14002, GANTRY_BF16 = 0x11004
};
enum { GANTRY_ERROR = 1, GANTRY_WARN = 2, GANTRY_INFO = 3, GANTRY_DEBUG = 4 };      /* report levels */
enum { GANTRY_Z_UNKNOWN = 1, GANTRY_Z_IRREGULAR = 2 };                              /* geometry flags */
enum { GANTRY_ABANDONED = 1 };                                                      /* call flag on end: the case failed or was cancelled */

typedef struct gantry_tensor_v1 {               /* [C, Z, Y, X], always rank 4; here Z counts the slices in this call */
    void    *data;                              /* 64-byte aligned; NULL in begin; device memory only under gantry.device-buffer/1 */
    uint64_t byte_len;                          /* readable/writable span from data */
    uint64_t buffer;                            /* host's name for the buffer (pipe, device extension) */
    uint32_t dtype;
    int32_t  device_type, device_id;            /* DLPack numbers; 1 = CPU in base v1 */
    uint32_t reserved;                          /* 0 */
    int64_t  shape[4], stride[4];               /* elements; planes dense: stride[3] = 1, stride[2] = shape[3]; C and Z strides free */
} gantry_tensor_v1;

typedef struct gantry_geometry_v1 {             /* of the whole volume, not of the slices in this call */
    uint64_t grid;                              /* equal and not 0: same grid. Host fills; a stage making a new grid leaves 0 */
    uint64_t lattice;                           /* equal and not 0: integer voxel offset apart (crop, uncrop, pad) */
    uint64_t frame;                             /* equal and not 0: same frame of reference. Tokens, never UIDs */
    int64_t  size[3];                           /* z, y, x */
    double   affine[12];                        /* 3x4 row-major; (x, y, z, 1) voxel centre -> (L, P, S) mm */
    const double *slice_origin_mm;              /* size[0] x 3 if Z_IRREGULAR, else NULL */
    uint32_t flags, reserved;
} gantry_geometry_v1;

typedef struct gantry_map_v1 { double scale, offset, lo, hi; } gantry_map_v1;       /* physical = value*scale + offset, true for lo..hi (physical) */
typedef struct gantry_label_v1 { int64_t value; gantry_str_v1 name, scheme, code; uint32_t rgba, reserved; } gantry_label_v1;

typedef struct gantry_item_v1 {                 /* one thing on one port; a `many` port has several items, an absent optional none */
    uint32_t port, kind;                        /* index into prepare's ports; GANTRY_IMAGE.. */
    gantry_str_v1 name;                         /* named: element name; many: decimal index (emit takes the same); FILE: file name; else empty */
    gantry_tensor_v1 tensor;                    /* IMAGE, LABELS */
    int64_t  z0;                                /* index in the volume of tensor's first slice. Out z0, shape[1] = slices to produce (halo: in is wider) */
    gantry_geometry_v1 *geometry;               /* writable only on out items of a `new`/`sub` grid, in begin or before allocate */
    const gantry_str_v1 *channels;              /* shape[0] names; out with channels = "dynamic": begin sets them and shape[0] */
    gantry_map_v1 *maps;                        /* shape[0] x shape[1], [C][Z]; out: pre-filled from the `like` input; writable */
    const gantry_label_v1 *labels;              /* LABELS: table from caps or card; out with labels = "dynamic": stage sets it */
    uint64_t n_labels;
    gantry_str_v1 bytes;                        /* RECORD, TABLE: JSON; HEADERS: Explicit VR LE datasets without pixels; FILE */
    const uint64_t *parts;                      /* HEADERS: n_parts + 1 offsets into bytes, one dataset per slice */
    uint64_t n_parts;
} gantry_item_v1;

typedef struct gantry_port_v1 {                 /* in plugin.toml order, inputs first; `when = false` ports left out */
    gantry_str_v1 name, caps;                   /* caps: resolved, as JSON; a key not decided is "dynamic" */
    uint32_t output, connected;                 /* 0/1 */
} gantry_port_v1;

typedef struct gantry_needs_v1 {                /* begin: pre-filled from plugin.toml, the stage may change it; bytes beyond host buffers */
    uint32_t batch_max;                         /* slices a call (0: no limit) */
    uint32_t halo_below, halo_above;            /* slab; not more than plugin.toml's */
    uint32_t reserved;
    uint64_t host_bytes, host_bytes_per_slice, device_bytes, device_bytes_per_slice;
} gantry_needs_v1;

typedef struct gantry_host_v1 gantry_host_v1;
typedef struct gantry_call_v1 {                 /* read-only for the plugin, except *out */
    const gantry_host_v1 *host;
    void    *ctx;                               /* this call's token: pass it back, from any thread, until the call returns */
    uint64_t seed[2];                           /* f(run seed, case, node); mix in z0 + k for slice k: results must not depend on batching */
    uint64_t case_no;                           /* index in the run, never an identity */
    uint64_t host_budget, device_budget;        /* bytes the stage may hold of its own, 0 unknown */
    uint32_t threads, flags;                    /* CPU threads this call may keep busy, >= 1 */
    const gantry_item_v1 *in;  uint64_t n_in;   /* by port, then pipeline order (many) or `names` order (named) */
    gantry_item_v1       *out; uint64_t n_out;  /* what the host could size; nothing for unread optional outputs */
} gantry_call_v1;

struct gantry_host_v1 {                         /* every member [any] during a call; none may be NULL */
    uint32_t abi_major, abi_minor;
    gantry_str_v1 built_by;
    /* code: kebab-case id, "" for a plain log line; port: index or -1. The last ERROR explains a failed status. No patient text. */
    void    (*report)(void *ctx, int32_t level, gantry_str_v1 code, int32_t port, gantry_str_v1 text);
    void    (*progress)(void *ctx, uint64_t done, uint64_t total);      /* monotonic; also proves life to the watchdog */
    int32_t (*cancelled)(void *ctx);                                    /* not 0: return CANCELLED soon; cheap, never blocks */
    /* file of the checkpoint chosen by parameter `param` (hash already verified), read-only, 64-byte aligned; "card.json" is the card */
    int32_t (*checkpoint)(void *ctx, gantry_str_v1 param, gantry_str_v1 file, gantry_str_v1 *out);
    /* process: voxels for size = "data" or a `many` output. In: port, kind, name, dtype, shape, geometry. Out: data, stride, maps, buffer */
    int32_t (*allocate)(void *ctx, gantry_item_v1 *item);
    /* process, end: RECORD, TABLE, HEADERS (one call a slice), FILE (same name again appends). Host copies. Published when the call returns OK */
    int32_t (*emit)(void *ctx, uint32_t port, gantry_str_v1 name, gantry_str_v1 bytes);
    int32_t (*reserve)(void *ctx, int32_t device_type, int64_t delta);  /* large own allocations: before +n, after -n; RESOURCE = do not */
    /* JSON in, JSON out, by name ("gantry.sql/1"); only names listed under `services`. *response until the call returns */
    int32_t (*service)(void *ctx, gantry_str_v1 name, gantry_str_v1 request, gantry_str_v1 *response);
    const void *(*extension)(void *ctx, gantry_str_v1 name);            /* frozen table by versioned name, NULL if not offered */
};

typedef struct gantry_entry_v1 {                /* the one exported symbol, read before anything is called */
    uint32_t abi_major, abi_minor;              /* first 8 bytes, for ever */
    gantry_str_v1 built_by, manifest;           /* manifest: the text of plugin.toml */
    int32_t (*create)(const gantry_host_v1 *host, void *ctx, gantry_str_v1 stage, gantry_str_v1 params, void **out); /* [any] params: complete JSON object */
    int32_t (*prepare)(void *stage, const gantry_call_v1 *call, const gantry_port_v1 *ports, uint64_t n_ports);     /* [one] load weights; n_in = n_out = 0 */
    int32_t (*begin)(void *stage, const gantry_call_v1 *call, gantry_needs_v1 *needs);  /* [one] no voxels yet: size `new` grids */
    int32_t (*process)(void *stage, const gantry_call_v1 *call);        /* [par] */
    int32_t (*end)(void *stage, const gantry_call_v1 *call);            /* [one] after every OK begin; last emits */
    void    (*destroy)(void *stage);                                    /* [any] */
    const void *(*extension)(gantry_str_v1 stage, gantry_str_v1 name);  /* [any] pure; NULL if not offered */
} gantry_entry_v1;
extern GANTRY_EXPORT const gantry_entry_v1 gantry_plugin_v1;

/* Read from the file before it is opened: once per library, e.g. GANTRY_SECTION("<sha256 of plugin.toml, 64 lower-case hex digits>"); */
#define GANTRY_SECTION(manifest_sha256) \
    __attribute__((section(".gantry.v1"), used)) static const char gantry_section_v1[] = "gantry-abi=1;manifest-sha256=" manifest_sha256

#define GANTRY_SIZE_(T, n) typedef char T##_size_check[sizeof(T) == (n) ? 1 : -1]
GANTRY_SIZE_(gantry_str_v1, 16);   GANTRY_SIZE_(gantry_tensor_v1, 104); GANTRY_SIZE_(gantry_geometry_v1, 160); GANTRY_SIZE_(gantry_map_v1, 32);
GANTRY_SIZE_(gantry_label_v1, 64); GANTRY_SIZE_(gantry_item_v1, 208);   GANTRY_SIZE_(gantry_port_v1, 40);      GANTRY_SIZE_(gantry_needs_v1, 48);
GANTRY_SIZE_(gantry_call_v1, 96);  GANTRY_SIZE_(gantry_host_v1, 96);    GANTRY_SIZE_(gantry_entry_v1, 96);
#ifdef __cplusplus
}
#endif
#endif
