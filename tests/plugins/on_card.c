/* Linked into a plugin's CUDA library by tests: it needs the driver, and tells which cards its process was shown. */
#include <stdio.h>
#include <stdlib.h>

int cuInit(unsigned flags);

__attribute__((constructor)) static void tell(void)
{
    const char *cards = getenv("CUDA_VISIBLE_DEVICES"), *tf32 = getenv("NVIDIA_TF32_OVERRIDE");
    FILE *file = fopen(TOLD, "a");
    if (file == NULL) return;
    fprintf(file, "%s %s %d\n", cards ? cards : "all", tf32 ? tf32 : "unset", cuInit(0));
    fclose(file);
}
