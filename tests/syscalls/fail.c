/* Loaded into a program with LD_PRELOAD: fails the n-th call that opens, writes, syncs, renames or links a file below a folder, or that
   makes a process. Calls are counted over all processes of a run, in a file that they share.

   FAIL_FOLDER   files below it are meant
   FAIL_COUNTER  a file of 8 bytes, the number of calls so far
   FAIL_AT       which call fails, from 1; 0: none, calls are only counted
   FAIL_ALWAYS   1: every call from that one on fails
   FAIL_ERRNO    the error's number; 0: a write writes only its first byte */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long *counter;
static const char *folder;
static long at;
static int error, always;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAIL_COUNTER");
    folder = getenv("FAIL_FOLDER");
    at = getenv("FAIL_AT") ? atol(getenv("FAIL_AT")) : 0;
    error = getenv("FAIL_ERRNO") ? atoi(getenv("FAIL_ERRNO")) : EIO;
    always = getenv("FAIL_ALWAYS") != NULL;
    if (!file || !folder) return;
    int fd = REAL(open)(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *shared = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) counter = shared;
    close(fd);
}

/* Whether this call is the one. */
static int due(void) {
    if (!counter) return 0;
    long number = atomic_fetch_add(counter, 1) + 1;
    return at > 0 && (number == at || (always && number > at));
}

static int below(const char *path) {
    char whole[4096];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole)) return 0;
        size_t used = strlen(whole);
        snprintf(whole + used, sizeof whole - used, "/%s", path);
        path = whole;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int of_descriptor(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return below(path);
}

#define FAILS(is_meant) ((is_meant) && due())
#define FAIL(value) do { errno = error ? error : EIO; return value; } while (0)

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (FAILS(below(path))) FAIL(-1);
    return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (FAILS(below(path))) FAIL(-1);
    return REAL(open64)(path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (FAILS(of_descriptor(fd))) {
        if (!error && length > 1) return REAL(write)(fd, bytes, 1);
        FAIL(-1);
    }
    return REAL(write)(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (FAILS(of_descriptor(fd))) {
        if (!error && count > 0 && parts[0].iov_len > 1) return REAL(write)(fd, parts[0].iov_base, 1);
        FAIL(-1);
    }
    return REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    if (FAILS(of_descriptor(fd))) {
        if (!error && length > 1) return REAL(pwrite)(fd, bytes, 1, offset);
        FAIL(-1);
    }
    return REAL(pwrite)(fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    if (FAILS(of_descriptor(fd))) {
        if (!error && length > 1) return REAL(pwrite64)(fd, bytes, 1, offset);
        FAIL(-1);
    }
    return REAL(pwrite64)(fd, bytes, length, offset);
}

int fsync(int fd) {
    if (FAILS(of_descriptor(fd))) FAIL(-1);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    if (FAILS(of_descriptor(fd))) FAIL(-1);
    return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t length) {
    if (FAILS(of_descriptor(fd))) FAIL(-1);
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    if (FAILS(of_descriptor(fd))) FAIL(-1);
    return REAL(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
    if (FAILS(below(to))) FAIL(-1);
    return REAL(rename)(from, to);
}

int link(const char *from, const char *to) {
    if (FAILS(below(to))) FAIL(-1);
    return REAL(link)(from, to);
}

int mkdir(const char *path, mode_t mode) {
    if (FAILS(below(path))) FAIL(-1);
    return REAL(mkdir)(path, mode);
}

int unlink(const char *path) {
    if (FAILS(below(path))) FAIL(-1);
    return REAL(unlink)(path);
}

pid_t fork(void) {
    if (FAILS(folder != NULL)) {
        errno = EAGAIN;
        return -1;
    }
    return REAL(fork)();
}
