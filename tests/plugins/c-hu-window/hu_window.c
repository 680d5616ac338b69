/* A Gantry stage in C99, made with gantry_v1.h alone: clips Hounsfield units to a window and scales them to [-1, 1].
 * manifest.h holds `manifest_text` (the bytes of plugin.toml) and MANIFEST_SHA256; docs/stage-abi.md shows how to make it. */
#include "gantry_v1.h"
#include "manifest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

GANTRY_SECTION(MANIFEST_SHA256);

typedef struct { double lo, hi; } window;

static gantry_str_v1 str(const char *text)
{
    gantry_str_v1 s;
    s.ptr = text;
    s.len = strlen(text);
    return s;
}

static void explain(const gantry_host_v1 *host, void *ctx, const char *code, const char *text)
{
    host->report(ctx, GANTRY_ERROR, str(code), -1, str(text));
}

/* The number of one parameter. The host checked names, types and ranges, so the object is flat and complete. */
static int number(gantry_str_v1 params, const char *key, double *out)
{
    char *text = malloc((size_t)params.len + 1), *at, *end = NULL;
    if (text == NULL) return 0;
    memcpy(text, params.ptr, (size_t)params.len);
    text[params.len] = '\0';
    at = strstr(text, key);
    if (at != NULL) at = strchr(at, ':');
    if (at != NULL) *out = strtod(at + 1, &end);
    at = at != NULL && end != at + 1 ? at : NULL;
    free(text);
    return at != NULL;
}

static int32_t create(const gantry_host_v1 *host, void *ctx, gantry_str_v1 stage, gantry_str_v1 params, void **out)
{
    window *w = malloc(sizeof *w);
    (void)stage; /* the library has one */
    if (w == NULL) return GANTRY_RESOURCE;
    if (!number(params, "\"hu_min\"", &w->lo) || !number(params, "\"hu_max\"", &w->hi) || !((float)w->lo < (float)w->hi)) {
        free(w);
        explain(host, ctx, "bad-parameters", "hu_min must be below hu_max");
        return GANTRY_BAD_PARAMS;
    }
    *out = w;
    return GANTRY_OK;
}

static int32_t prepare(void *stage, const gantry_call_v1 *call, const gantry_port_v1 *ports, uint64_t n_ports)
{
    (void)stage; (void)call; (void)ports; (void)n_ports;
    return GANTRY_OK;
}

static int32_t begin(void *stage, const gantry_call_v1 *call, gantry_needs_v1 *needs)
{
    (void)stage; (void)call; (void)needs;
    return GANTRY_OK;
}

static int32_t process(void *stage, const gantry_call_v1 *call)
{
    const window *w = stage;
    const gantry_item_v1 *in = &call->in[0];
    gantry_item_v1 *out = &call->out[0];
    const int64_t *shape = in->tensor.shape;
    const float lo = (float)w->lo, hi = (float)w->hi, range = (float)(w->hi - w->lo);
    int64_t c, z, i, plane = shape[2] * shape[3];
    for (c = 0; c < shape[0]; c++) {
        for (z = 0; z < shape[1]; z++) {
            const float *from = (const float *)in->tensor.data + c * in->tensor.stride[0] + z * in->tensor.stride[1];
            float *to = (float *)out->tensor.data + c * out->tensor.stride[0] + z * out->tensor.stride[1];
            gantry_map_v1 *map = &out->maps[c * shape[1] + z];
            for (i = 0; i < plane; i++) {
                float v = from[i];
                if (!isfinite(v)) {
                    explain(call->host, call->ctx, "not-finite", "a voxel is not a finite number");
                    return GANTRY_BAD_INPUT;
                }
                v = v < lo ? lo : v > hi ? hi : v;
                to[i] = 2.0f * (v - lo) / range - 1.0f;
            }
            map->scale = ((double)hi - (double)lo) / 2.0;
            map->offset = ((double)hi + (double)lo) / 2.0;
            map->lo = lo;
            map->hi = hi;
        }
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

#define BUILT_BY "hu_window.c"
const gantry_entry_v1 gantry_plugin_v1 = {
    GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR,
    { BUILT_BY, sizeof BUILT_BY - 1 },
    { (const char *)manifest_text, sizeof manifest_text },
    create, prepare, begin, process, end, destroy, extension
};
