/* A disk that fails when told to, and that forgets in a power cut what was not synced.
 *
 * Preloaded into the processes that write a store.  DISK is a directory:
 *   DISK/write, sync  while it is there, such calls on the store fail with the number in it;
 *   DISK/synced/F     the store's file F as it was at its last sync, which is what a power cut would leave of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEXT(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* The name of a file of the store, or NULL: its -shm is no file that has to last. */
static const char *name_of(int file, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 4) return NULL;
    path[size] = 0;
    if (strcmp(path + size - 3, ".db") && strcmp(path + size - 4, "-wal")) return NULL;
    return strrchr(path, '/') + 1;
}

static void place(char path[PATH_MAX], const char *format, const char *name) {
    int size = snprintf(path, PATH_MAX, "%s/", getenv("DISK"));
    snprintf(path + size, PATH_MAX - size, format, name, (long)syscall(SYS_gettid));
}

static int fault(int file, const char *call) {
    char path[PATH_MAX];
    if (!name_of(file, path)) return 0;
    place(path, "%s", call);
    FILE *told = fopen(path, "r");
    if (!told) return 0;
    int number = 0;
    if (fscanf(told, "%d", &number) != 1) number = EIO;
    fclose(told);
    return number;
}

/* Never open the file itself: to close it again would drop SQLite's locks on it. */
static void keep(int file) {
    char path[PATH_MAX], part[PATH_MAX], whole[PATH_MAX], block[1 << 16];
    const char *name = name_of(file, path);
    if (!name) return;
    place(part, "part.%s.%ld", name);
    place(whole, "synced/%s", name);
    int copy = open(part, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    off_t at = 0;
    for (ssize_t size; (size = pread(file, block, sizeof block, at)) > 0; at += size)
        if (write(copy, block, size) != size) abort();
    if (copy < 0 || close(copy) || rename(part, whole)) abort();
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    if ((errno = fault(file, "write"))) return -1;
    return NEXT(pwrite64)(file, bytes, size, at);
}

int fdatasync(int file) {
    if ((errno = fault(file, "sync"))) return -1;
    int failed = NEXT(fdatasync)(file);
    if (!failed) keep(file);
    return failed;
}

int fsync(int file) {
    if ((errno = fault(file, "sync"))) return -1;
    int failed = NEXT(fsync)(file);
    if (!failed) keep(file);
    return failed;
}
