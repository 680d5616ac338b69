/* The cheapest stages there are: what they cost in a chain, compared with the same arithmetic in one loop, is what the
 * boundary costs. */
#include "gantry_v1.h"
#include "manifest.h"

#include <stdlib.h>
#include <string.h>

GANTRY_SECTION(MANIFEST_SHA256);

typedef struct { int source; int64_t size[3]; } state;

static int64_t integer(gantry_str_v1 params, const char *key)
{
    uint64_t i, n = strlen(key);
    for (i = 0; i + n < params.len; i++)
        if (memcmp(params.ptr + i, key, (size_t)n) == 0) {
            int64_t value = 0;
            for (i += n; i < params.len && params.ptr[i] >= '0' && params.ptr[i] <= '9'; i++) value = value * 10 + (params.ptr[i] - '0');
            return value;
        }
    return 0;
}

static int32_t create(const gantry_host_v1 *host, void *ctx, gantry_str_v1 stage, gantry_str_v1 params, void **out)
{
    state *s = calloc(1, sizeof *s);
    (void)host; (void)ctx;
    if (s == NULL) return GANTRY_RESOURCE;
    s->source = stage.len == strlen("org.example.ramp");
    s->size[0] = integer(params, "\"slices\":");
    s->size[1] = integer(params, "\"rows\":");
    s->size[2] = integer(params, "\"columns\":");
    *out = s;
    return GANTRY_OK;
}

static int32_t prepare(void *stage, const gantry_call_v1 *call, const gantry_port_v1 *ports, uint64_t n_ports)
{
    (void)stage; (void)call; (void)ports; (void)n_ports;
    return GANTRY_OK;
}

static int32_t begin(void *stage, const gantry_call_v1 *call, gantry_needs_v1 *needs)
{
    const state *s = stage;
    (void)needs;
    if (s->source && call->n_out > 0) {
        gantry_geometry_v1 *g = call->out[0].geometry;
        memcpy(g->size, s->size, sizeof g->size);
        memset(g->affine, 0, sizeof g->affine);
        g->affine[0] = g->affine[5] = g->affine[10] = 1.0;
    }
    return GANTRY_OK;
}

static int32_t process(void *stage, const gantry_call_v1 *call)
{
    const state *s = stage;
    gantry_tensor_v1 *out = &call->out[0].tensor;
    const gantry_tensor_v1 *in = s->source ? out : &call->in[0].tensor;
    int64_t z, i, plane = out->shape[2] * out->shape[3];
    for (z = 0; z < out->shape[1]; z++) {
        float *to = (float *)out->data + z * out->stride[1];
        const float *from = (const float *)in->data + z * in->stride[1];
        if (s->source)
            for (i = 0; i < plane; i++) to[i] = (float)(i & 1023);
        else
            for (i = 0; i < plane; i++) to[i] = from[i] * 0.75f + 12.5f;
    }
    return GANTRY_OK;
}

static int32_t end(void *stage, const gantry_call_v1 *call)
{
    (void)stage; (void)call;
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

#define BUILT_BY "boundary.c"
const gantry_entry_v1 gantry_plugin_v1 = {
    GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR,
    { BUILT_BY, sizeof BUILT_BY - 1 },
    { (const char *)manifest_text, sizeof manifest_text },
    create, prepare, begin, process, end, destroy, extension
};

/* The same arithmetic without any boundary, compiled by the same compiler: for the benchmark. */
GANTRY_EXPORT void boundary_one_loop(const float *from, float *to, uint64_t n);
void boundary_one_loop(const float *from, float *to, uint64_t n)
{
    uint64_t i;
    for (i = 0; i < n; i++) {
        float v = from[i] * 0.75f + 12.5f;
        v = v * 0.75f + 12.5f;
        v = v * 0.75f + 12.5f;
        to[i] = v * 0.75f + 12.5f;
    }
}
