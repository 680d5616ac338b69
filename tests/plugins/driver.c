/* Stands in for NVIDIA's libcuda.so.1 where tests need a driver: two cards, or a refusal (REFUSE: what cuInit returns). */
#include <stddef.h>
#include <string.h>

#ifndef REFUSE
#define REFUSE 0
#endif

int cuInit(unsigned flags) { return flags == 0 ? REFUSE : 1; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return number < 2 ? 0 : 101; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)80 << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = NULL; return device == 1 ? 46 : 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return 0; }

int cuDeviceGetName(char *name, int length, int device)
{
    const char *word = device == 0 ? "Made-up Card A" : "Made-up Card B";
    strncpy(name, word, (size_t)length);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    *value = attribute == 75 ? 9 : 0;
    return 0;
}
