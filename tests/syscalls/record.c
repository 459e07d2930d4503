/* Loaded into a program with LD_PRELOAD: appends every change of files below a folder to a trace, in the order in which the changes
   happened, so that a power cut at any of them can be replayed. Calls that return before their record is written cannot be seen by
   other processes, and so the order of what depends on each other is right.

   RECORD_FOLDER  files below it are meant
   RECORD_TRACE   where records go: "KIND PATH OTHER OFFSET LENGTH\n" and LENGTH bytes */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *folder;
static int trace = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    folder = getenv("RECORD_FOLDER");
    const char *file = getenv("RECORD_TRACE");
    if (folder && file) {
        int fd = REAL(open)(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        /* Beyond the descriptors that programs give a meaning. */
        trace = fcntl(fd, F_DUPFD_CLOEXEC, 200);
        close(fd);
    }
}

/* The path as it is from the root; none if it is not meant. */
static const char *meant(const char *path, char *whole, size_t room) {
    if (trace < 0 || !path) return NULL;
    if (path[0] == '/') {
        snprintf(whole, room, "%s", path);
    } else {
        if (!getcwd(whole, room)) return NULL;
        size_t used = strlen(whole);
        snprintf(whole + used, room - used, "/%s", path);
    }
    return strncmp(whole, folder, strlen(folder)) == 0 ? whole : NULL;
}

static const char *of_descriptor(int fd, char *whole, size_t room) {
    char link[64];
    if (trace < 0) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, room - 1);
    if (length <= 0) return NULL;
    whole[length] = 0;
    if (strstr(whole, " (deleted)")) return NULL;
    return strncmp(whole, folder, strlen(folder)) == 0 ? whole : NULL;
}

static void record(const char *kind, const char *path, const char *other, off64_t offset, const void *bytes, size_t length) {
    int kept = errno;
    char head[9000];
    int used = snprintf(head, sizeof head, "%s %s %s %lld %zu\n", kind, path, other, (long long)offset, length);
    struct iovec parts[2] = {{head, (size_t)used}, {(void *)bytes, length}};
    /* One call: records of several processes do not mix. */
    if (REAL(writev)(trace, parts, length ? 2 : 1) < 0) abort();
    errno = kept;
}

static int opened(int fd, const char *path, int flags) {
    char whole[4096];
    const char *file = fd >= 0 ? meant(path, whole, sizeof whole) : NULL;
    if (file && (flags & O_CREAT)) record("create", file, "-", 0, NULL, 0);
    if (file && (flags & O_TRUNC)) record("truncate", file, "-", 0, NULL, 0);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return opened(REAL(open)(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return opened(REAL(open64)(path, flags, mode), path, flags);
}

/* Where a write without a place goes. */
static off64_t place_of(int fd) {
    struct stat64 stat;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat64(fd, &stat) == 0 ? stat.st_size : 0;
    return lseek64(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char whole[4096];
    const char *file = of_descriptor(fd, whole, sizeof whole);
    off64_t place = file ? place_of(fd) : 0;
    ssize_t written = REAL(write)(fd, bytes, length);
    if (file && written > 0) record("write", file, "-", place, bytes, (size_t)written);
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char whole[4096];
    const char *file = of_descriptor(fd, whole, sizeof whole);
    off64_t place = file ? place_of(fd) : 0;
    ssize_t written = REAL(writev)(fd, parts, count);
    ssize_t left = written;
    for (int at = 0; file && at < count && left > 0; at++) {
        size_t part = (size_t)left < parts[at].iov_len ? (size_t)left : parts[at].iov_len;
        if (part) record("write", file, "-", place, parts[at].iov_base, part);
        place += (off64_t)part;
        left -= (ssize_t)part;
    }
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    char whole[4096];
    const char *file = of_descriptor(fd, whole, sizeof whole);
    ssize_t written = REAL(pwrite)(fd, bytes, length, offset);
    if (file && written > 0) record("write", file, "-", offset, bytes, (size_t)written);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char whole[4096];
    const char *file = of_descriptor(fd, whole, sizeof whole);
    ssize_t written = REAL(pwrite64)(fd, bytes, length, offset);
    if (file && written > 0) record("write", file, "-", offset, bytes, (size_t)written);
    return written;
}

static int changed(int result, int fd, const char *kind, off64_t offset) {
    char whole[4096];
    const char *file = result == 0 ? of_descriptor(fd, whole, sizeof whole) : NULL;
    if (file) record(kind, file, "-", offset, NULL, 0);
    return result;
}

int fsync(int fd) { return changed(REAL(fsync)(fd), fd, "sync", 0); }
int fdatasync(int fd) { return changed(REAL(fdatasync)(fd), fd, "sync", 0); }
int ftruncate(int fd, off_t length) { return changed(REAL(ftruncate)(fd, length), fd, "truncate", length); }
int ftruncate64(int fd, off64_t length) { return changed(REAL(ftruncate64)(fd, length), fd, "truncate", length); }

int rename(const char *from, const char *to) {
    char whole[4096], other[4096];
    int result = REAL(rename)(from, to);
    const char *source = meant(from, whole, sizeof whole), *target = meant(to, other, sizeof other);
    if (result == 0 && source && target) record("rename", source, target, 0, NULL, 0);
    return result;
}

int link(const char *from, const char *to) {
    char whole[4096], other[4096];
    int result = REAL(link)(from, to);
    const char *source = meant(from, whole, sizeof whole), *target = meant(to, other, sizeof other);
    if (result == 0 && source && target) record("link", source, target, 0, NULL, 0);
    return result;
}

static int named(int result, const char *kind, const char *path) {
    char whole[4096];
    const char *file = result == 0 ? meant(path, whole, sizeof whole) : NULL;
    if (file) record(kind, file, "-", 0, NULL, 0);
    return result;
}

int mkdir(const char *path, mode_t mode) { return named(REAL(mkdir)(path, mode), "mkdir", path); }
int unlink(const char *path) { return named(REAL(unlink)(path), "unlink", path); }
int rmdir(const char *path) { return named(REAL(rmdir)(path), "unlink", path); }

int unlinkat(int at, const char *path, int flags) {
    char whole[4096], base[4096];
    const char *inside = path[0] == '/' || at == AT_FDCWD ? "" : of_descriptor(at, base, sizeof base);
    int result = REAL(unlinkat)(at, path, flags);
    if (!inside) return result;
    snprintf(whole, sizeof whole, "%s%s%s", inside, inside[0] ? "/" : "", path);
    return named(result, "unlink", whole);
}
