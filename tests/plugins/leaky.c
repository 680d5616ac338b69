/* A stage that says or writes the bytes it is told, so that a test can see whether the host finds them. */
#define _POSIX_C_SOURCE 200809L
#include "gantry_v1.h"
#include "manifest.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

GANTRY_SECTION(MANIFEST_SHA256);

typedef struct { char how[16]; char name[160]; char *bytes; uint64_t count; int calls; } state;

static gantry_str_v1 str(const char *text)
{
    gantry_str_v1 s;
    s.ptr = text;
    s.len = strlen(text);
    return s;
}

/* The text of a parameter: parameters hold no quotes here. */
static char *param(gantry_str_v1 params, const char *name)
{
    char key[32], *out;
    uint64_t i, n;
    const char *end;
    strcpy(key, "\"");
    strcat(key, name);
    strcat(key, "\":\"");
    n = strlen(key);
    for (i = 0; i + n <= params.len; i++) {
        if (memcmp(params.ptr + i, key, (size_t)n) != 0) continue;
        end = memchr(params.ptr + i + n, '"', (size_t)(params.len - i - n));
        if (end == NULL) return NULL;
        n = (uint64_t)(end - params.ptr) - i - n;
        out = calloc(1, (size_t)n + 1);
        if (out != NULL) memcpy(out, end - n, (size_t)n);
        return out;
    }
    return NULL;
}

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static int32_t create(const gantry_host_v1 *host, void *ctx, gantry_str_v1 stage, gantry_str_v1 params, void **out)
{
    state *s = calloc(1, sizeof *s);
    char *how = param(params, "how"), *name = param(params, "name"), *hex = param(params, "hex");
    uint64_t i;
    gantry_str_v1 words;
    (void)stage;
    if (s == NULL || how == NULL || name == NULL || hex == NULL) return GANTRY_BAD_PARAMS;
    if (strlen(how) >= sizeof s->how || strlen(name) >= sizeof s->name) return GANTRY_BAD_PARAMS;
    strcpy(s->how, how);
    strcpy(s->name, name);
    s->count = strlen(hex) / 2;
    s->bytes = calloc(1, (size_t)s->count + 1);
    if (s->bytes == NULL) return GANTRY_RESOURCE;
    for (i = 0; i < s->count; i++) s->bytes[i] = (char)(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
    free(how);
    free(name);
    free(hex);
    if (strcmp(s->how, "refuse-create") == 0) {
        words.ptr = s->bytes;
        words.len = s->count;
        host->report(ctx, GANTRY_ERROR, str("said"), -1, words);
        free(s->bytes);
        free(s);
        return GANTRY_BAD_PARAMS;
    }
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
    (void)stage; (void)call; (void)needs;
    return GANTRY_OK;
}

static int32_t process(void *stage, const gantry_call_v1 *call)
{
    state *s = stage;
    gantry_str_v1 bytes;
    bytes.ptr = s->bytes;
    bytes.len = s->count;
    s->calls++;
    if (strcmp(s->how, "log") == 0) call->host->report(call->ctx, GANTRY_INFO, str("said"), -1, bytes);
    if (strcmp(s->how, "warn") == 0) call->host->report(call->ctx, GANTRY_WARN, str("said"), -1, bytes);
    if (strcmp(s->how, "refuse") == 0) {
        call->host->report(call->ctx, GANTRY_ERROR, str("said"), -1, bytes);
        return GANTRY_BAD_INPUT;
    }
    if (strcmp(s->how, "warn-refuse") == 0) call->host->report(call->ctx, GANTRY_WARN, str("said"), -1, bytes);
    if (strcmp(s->how, "log-refuse") == 0) call->host->report(call->ctx, GANTRY_INFO, str("said"), -1, bytes);
    if (strcmp(s->how, "warn-refuse") == 0 || strcmp(s->how, "log-refuse") == 0) {
        call->host->report(call->ctx, GANTRY_ERROR, str("refused"), -1, str("not today"));
        return GANTRY_BAD_INPUT;
    }
    /* Says it of the first case and dies of the second. */
    if (strcmp(s->how, "warn-die") == 0) {
        if (s->calls > 1) abort();
        call->host->report(call->ctx, GANTRY_WARN, str("said"), -1, bytes);
    }
    /* Says it of the second case and waits in the third for as long as there is a file. */
    if (strcmp(s->how, "warn-wait") == 0) {
        struct timespec moment = { 0, 10000000 };
        if (s->calls == 2) call->host->report(call->ctx, GANTRY_WARN, str("said"), -1, bytes);
        while (s->calls == 3 && access(s->name, F_OK) == 0) nanosleep(&moment, NULL);
    }
    if (strcmp(s->how, "file") == 0) return call->host->emit(call->ctx, 1, str(s->name), bytes);
    return GANTRY_OK;
}

static int32_t end(void *stage, const gantry_call_v1 *call)
{
    (void)stage; (void)call;
    return GANTRY_OK;
}

static void destroy(void *stage)
{
    state *s = stage;
    free(s->bytes);
    free(s);
}

static const void *extension(gantry_str_v1 stage, gantry_str_v1 name)
{
    (void)stage; (void)name;
    return NULL;
}

#define BUILT_BY "leaky.c"
extern GANTRY_EXPORT const gantry_entry_v1 gantry_plugin_v1;
const gantry_entry_v1 gantry_plugin_v1 = {
    GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR,
    { BUILT_BY, sizeof BUILT_BY - 1 },
    { (const char *)manifest_text, sizeof manifest_text },
    create, prepare, begin, process, end, destroy, extension
};
