/* Stages that misbehave on purpose, each in the way its parameter `mode` names. They behave on every case but a marked
 * one (the first slice lies at z = 777 mm), so that a test can see what becomes of its neighbours. */
#include "gantry_v1.h"
#include "manifest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the section and the entry say can be falsified by -D. */
#ifndef SECTION_SHA256
#define SECTION_SHA256 MANIFEST_SHA256
#endif
#ifdef SECTION_ABI
__attribute__((section(".gantry.v1"), used)) static const char gantry_section_v1[] =
    "gantry-abi=" SECTION_ABI ";manifest-sha256=" SECTION_SHA256;
#elif !defined(NO_SECTION)
GANTRY_SECTION(SECTION_SHA256);
#endif
#ifndef ENTRY_ABI
#define ENTRY_ABI GANTRY_ABI_MAJOR
#endif
#ifndef ENTRY_PROCESS
#define ENTRY_PROCESS process
#endif
#ifndef ENTRY_MANIFEST
#define ENTRY_MANIFEST { (const char *)manifest_text, sizeof manifest_text }
#endif
#ifndef ENTRY_SYMBOL
#define ENTRY_SYMBOL gantry_plugin_v1
#endif

#ifdef TRACE /* a constructor leaves a trace when the loader runs it */
__attribute__((constructor)) static void leave_trace(void)
{
    FILE *file = fopen(TRACE, "w");
    if (file != NULL) fclose(file);
}
#endif
#ifdef PRIVATE_DEPENDENCY /* a function of a library in the plugin's own folder */
int dependency_answer(void);
#endif

typedef struct { char mode[40]; char stage[48]; int marked; } state;

static gantry_str_v1 str(const char *text)
{
    gantry_str_v1 s;
    s.ptr = text;
    s.len = strlen(text);
    return s;
}

/* A real fault: a raised signal is swallowed by the handler that looks for stack overflows. */
static void crash(void)
{
    static int *volatile nowhere = NULL;
    *nowhere = 1;
}

static int is(const state *s, const char *mode)
{
    return s->marked && strcmp(s->mode, mode) == 0;
}

static int32_t create(const gantry_host_v1 *host, void *ctx, gantry_str_v1 stage, gantry_str_v1 params, void **out)
{
    state *s = calloc(1, sizeof *s);
    const char *key = "\"mode\":\"", *end;
    uint64_t i, n = strlen(key);
    (void)host; (void)ctx;
    if (s == NULL) return GANTRY_RESOURCE;
    for (i = 0; i + n < params.len; i++) {
        if (memcmp(params.ptr + i, key, (size_t)n) == 0) {
            end = memchr(params.ptr + i + n, '"', (size_t)(params.len - i - n));
            if (end != NULL && (uint64_t)(end - params.ptr) - i - n < sizeof s->mode)
                memcpy(s->mode, params.ptr + i + n, (size_t)((uint64_t)(end - params.ptr) - i - n));
        }
    }
    if (stage.len < sizeof s->stage) memcpy(s->stage, stage.ptr, (size_t)stage.len);
#ifdef PRIVATE_DEPENDENCY
    if (dependency_answer() != 42) return GANTRY_BAD_PARAMS;
#endif
    if (strcmp(s->mode, "create-null") == 0) {
        free(s);
        *out = NULL;
        return GANTRY_OK;
    }
    if (strcmp(s->mode, "create-bad-params") == 0) {
        free(s);
        return GANTRY_BAD_PARAMS;
    }
    if (strcmp(s->mode, "create-segfault") == 0) crash();
    *out = s;
    return GANTRY_OK;
}

static int32_t prepare(void *stage, const gantry_call_v1 *call, const gantry_port_v1 *ports, uint64_t n_ports)
{
    const state *s = stage;
    char request[120];
    gantry_str_v1 answer;
    (void)ports; (void)n_ports;
    if (strcmp(s->stage, "org.example.hostile-kernels") == 0) {
        snprintf(request, sizeof request, "{\"precision\":\"%s\",\"instructions\":\"portable\"}", s->mode);
        return call->host->service(call->ctx, str("gantry.kernels/1"), str(request), &answer);
    }
    return strcmp(s->mode, "prepare-bad-weights") == 0 ? GANTRY_BAD_WEIGHTS : GANTRY_OK;
}

static int32_t begin(void *stage, const gantry_call_v1 *call, gantry_needs_v1 *needs)
{
    state *s = stage;
    int new_grid = strcmp(s->stage, "org.example.hostile-grid") == 0;
    s->marked = call->n_in > 0 && call->in[0].geometry != NULL && call->in[0].geometry->affine[11] == 777.0;
    if (new_grid && call->n_out > 0 && call->out[0].geometry != NULL) {
        gantry_geometry_v1 *g = call->out[0].geometry;
        memcpy(g->size, call->in[0].geometry->size, sizeof g->size);
        memcpy(g->affine, call->in[0].geometry->affine, sizeof g->affine);
        g->frame = call->in[0].geometry->frame;
        if (is(s, "grid-empty")) g->size[0] = 0;
        if (is(s, "grid-negative")) g->size[1] = -5;
        if (is(s, "grid-huge")) g->size[0] = g->size[1] = g->size[2] = (int64_t)1 << 20;
        if (is(s, "grid-nan")) g->affine[0] = NAN;
        if (is(s, "grid-singular")) memset(g->affine, 0, sizeof g->affine);
        if (is(s, "grid-irregular")) g->flags = GANTRY_Z_IRREGULAR;
    }
    if (is(s, "scribble-input")) call->in[0].geometry->affine[3] += 5.0;
    if (is(s, "scribble-output")) call->out[0].geometry->affine[3] += 5.0;
    if (is(s, "halo")) needs->halo_below = 3;
    if (is(s, "absent-required") && call->n_out > 0) call->out[0].kind = GANTRY_ABSENT;
    if (is(s, "dtype-changed") && call->n_out > 0) call->out[0].tensor.dtype = GANTRY_I16;
    if (is(s, "begin-segfault")) crash();
    if (is(s, "begin-99")) return 99;
    return GANTRY_OK;
}

static void copy(const gantry_call_v1 *call)
{
    const gantry_tensor_v1 *in = &call->in[0].tensor;
    gantry_tensor_v1 *out;
    int64_t c, z;
    if (call->n_out == 0) return;
    out = &call->out[0].tensor;
    for (c = 0; c < in->shape[0]; c++)
        for (z = 0; z < in->shape[1]; z++)
            memcpy((float *)out->data + c * out->stride[0] + z * out->stride[1],
                   (const float *)in->data + c * in->stride[0] + z * in->stride[1],
                   (size_t)(in->shape[2] * in->shape[3]) * sizeof(float));
}

/* Labels: 1 where the image is above 0 HU. */
static void threshold(const state *s, const gantry_call_v1 *call)
{
    const gantry_tensor_v1 *in = &call->in[0].tensor, *out = &call->out[0].tensor;
    int64_t z, i;
    for (z = 0; z < in->shape[1]; z++)
        for (i = 0; i < in->shape[2] * in->shape[3]; i++)
            ((uint8_t *)out->data)[z * out->stride[1] + i] = ((const float *)in->data)[z * in->stride[1] + i] > 0.0f;
    if (is(s, "label-outside")) ((uint8_t *)out->data)[3] = 9;
}

/* Voxels whose size the stage finds only now. */
static int32_t grow(const state *s, const gantry_call_v1 *call)
{
    gantry_item_v1 item;
    gantry_geometry_v1 geometry = *call->in[0].geometry;
    const gantry_tensor_v1 *in = &call->in[0].tensor;
    int32_t status;
    memset(&item, 0, sizeof item);
    item.port = 1;
    item.kind = GANTRY_IMAGE;
    item.tensor.dtype = GANTRY_F32;
    memcpy(item.tensor.shape, in->shape, sizeof item.tensor.shape);
    geometry.grid = 0;
    item.geometry = &geometry;
    if (is(s, "grow-nothing")) return GANTRY_OK;
    if (is(s, "grow-few")) item.tensor.shape[1] -= 1;
    if (is(s, "grow-negative")) item.tensor.shape[1] = -1;
    if (is(s, "grow-huge")) item.tensor.shape[1] = (int64_t)1 << 40;
    if (is(s, "grow-port")) item.port = 7;
    if (is(s, "grow-dtype")) item.tensor.dtype = 12345;
    status = call->host->allocate(call->ctx, &item);
    if (status != GANTRY_OK) return status;
    if (is(s, "grow-unwritten")) return GANTRY_OK;
    memcpy(item.tensor.data, in->data, (size_t)(in->shape[0] * item.tensor.shape[1] * in->shape[2] * in->shape[3]) * sizeof(float));
    return GANTRY_OK;
}

static int32_t deep(int32_t n);
static int32_t (*volatile run_deep)(int32_t) = deep; /* volatile: so that it stays a call in a frame of its own */

/* More stack than any thread has. */
static int32_t deep(int32_t n)
{
    volatile char frame[4096];
    frame[n % 4096] = 1;
    return n < 1 << 20 ? run_deep(n + 1) + frame[n % 4096] : 0;
}

static int32_t process(void *stage, const gantry_call_v1 *call)
{
    state *s = stage;
    gantry_str_v1 answer;
    const gantry_host_v1 *host = call->host;
    float *first;
    int64_t i;
    if (strcmp(s->stage, "org.example.hostile-data") == 0) return grow(s, call);
    if (strcmp(s->stage, "org.example.hostile-labels") == 0) {
        threshold(s, call);
        return GANTRY_OK;
    }
    copy(call);
    if (!s->marked) return GANTRY_OK;
    first = call->n_out > 0 ? (float *)call->out[0].tensor.data : NULL;
    if (is(s, "segfault")) crash();
    if (is(s, "abort")) abort();
    if (is(s, "exit-0")) exit(0);
    if (is(s, "quick-exit")) _Exit(0);
    if (is(s, "stack")) return run_deep(0);
    if (is(s, "loop")) for (;;) host->cancelled(call->ctx);
    if (is(s, "scribble-late")) call->in[0].geometry->affine[3] += 5.0;
    if (is(s, "nan") && first != NULL) first[1] = NAN;
    if (is(s, "infinite") && first != NULL) first[1] = INFINITY;
    if (is(s, "map-nan") && call->out[0].maps != NULL) call->out[0].maps[0].scale = NAN;
    if (is(s, "unwritten") && first != NULL) memset(first, 0xff, (size_t)(call->out[0].tensor.shape[2] * call->out[0].tensor.shape[3]) * sizeof(float));
    if (is(s, "stdout")) { printf("{\"say\":\"finished\"}\n"); fflush(stdout); fprintf(stderr, "\033[2J and more\n"); }
    if (is(s, "service")) return host->service(call->ctx, str("gantry.pseudonym/1"), str("{}"), &answer);
    if (is(s, "emit-wrong-port")) return host->emit(call->ctx, 99, str("a"), str("b"));
    if (is(s, "checkpoint")) return host->checkpoint(call->ctx, str("weights"), str("card.json"), &answer);
    if (is(s, "reserve-all")) return host->reserve(call->ctx, 1, INT64_MAX) == GANTRY_OK ? GANTRY_OK : GANTRY_RESOURCE;
    if (is(s, "bad-text")) {
        gantry_str_v1 latin = str("\xfcml\xe4ut"), null = { NULL, 7 };
        host->report(call->ctx, GANTRY_WARN, latin, -1, latin);
        host->report(call->ctx, GANTRY_ERROR, null, -1, null);
        host->report(call->ctx, GANTRY_WARN, str("odd"), 12345, str("a\033[31mred\nline"));
        host->report(NULL, GANTRY_ERROR, str(""), -1, str("no token"));
        return GANTRY_OK;
    }
    if (is(s, "warn-endlessly")) for (i = 0; i < 100000; i++) host->report(call->ctx, GANTRY_WARN, str("noise"), -1, str("noise"));
    if (is(s, "word")) host->report(call->ctx, GANTRY_ERROR, str("its-own-code"), 0, str("in its own words"));
    if (is(s, "word")) return GANTRY_BAD_INPUT;
    if (is(s, "status-cancelled")) return GANTRY_CANCELLED;
    if (is(s, "status-pending")) return GANTRY_PENDING;
    if (is(s, "status-bad-params")) return GANTRY_BAD_PARAMS;
    if (is(s, "status-bad-input")) return GANTRY_BAD_INPUT;
    if (is(s, "status-unsupported")) return GANTRY_UNSUPPORTED;
    if (is(s, "status-resource")) return GANTRY_RESOURCE;
    if (is(s, "resource-batch") && call->in[0].tensor.shape[1] > 1) return GANTRY_RESOURCE;
    if (is(s, "status-service")) return GANTRY_SERVICE;
    if (is(s, "status-bad-weights")) return GANTRY_BAD_WEIGHTS;
    if (is(s, "status-internal")) return GANTRY_INTERNAL;
    if (is(s, "status-99")) return 99;
    if (is(s, "status-minus-99")) return -99;
    return GANTRY_OK;
}

static int32_t end(void *stage, const gantry_call_v1 *call)
{
    state *s = stage;
    (void)call;
    if (is(s, "end-segfault")) crash();
    if (is(s, "end-internal")) return GANTRY_INTERNAL;
    s->marked = 0;
    return GANTRY_OK;
}

static void destroy(void *stage)
{
    free(stage);
}

static const void *extension(gantry_str_v1 stage, gantry_str_v1 name)
{
    (void)stage; (void)name;
    return NULL;
}

#define BUILT_BY "hostile.c"
extern GANTRY_EXPORT const gantry_entry_v1 ENTRY_SYMBOL;
const gantry_entry_v1 ENTRY_SYMBOL = {
    ENTRY_ABI, GANTRY_ABI_MINOR,
    { BUILT_BY, sizeof BUILT_BY - 1 },
    ENTRY_MANIFEST,
    create, prepare, begin, ENTRY_PROCESS, end, destroy, extension
};
