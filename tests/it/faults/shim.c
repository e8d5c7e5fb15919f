/* Stands between a process and the system, and breaks what a test says.
 *
 * FAULTS names a file of slots, which the test writes while the process runs: from
 * the so many-th call of this kind on, so many times, do this. FAULTS_PATH is what
 * the path of a file holds that is meant by the calls on files. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { NONE, OPEN, WRITE, SYNC, CUT, ANSWER, REQUEST, REPLY };
/* What is done is an errno, or one of these. */
enum act { KILL_BEFORE = -1, KILL_AFTER = -2, HALF = -3, KILL_HALFWAY = -4 };

struct slot {
    int32_t call, act, skip, times, port, hits, pad[2];
};

#define SLOTS 8
static struct slot *slots;
static const char *name;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS");
    name = getenv("FAULTS_PATH");
    if (!path)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    void *map = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || map == MAP_FAILED)
        abort();
    syscall(SYS_close, fd);
    slots = map;
}

static void die(void) {
    for (;;)
        syscall(SYS_kill, getpid(), SIGKILL);
}

static int port(int fd, int (*of)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (of(fd, (struct sockaddr *)&address, &size) || address.sin_family != AF_INET)
        return 0;
    return ntohs(address.sin_port);
}

/* What is to be done about a call: nothing, an errno, or an act. */
static int ask(enum call call, int here, int there) {
    int act = 0;
    for (int i = 0; slots && i < SLOTS; i++) {
        struct slot *slot = &slots[i];
        if (__atomic_load_n(&slot->call, __ATOMIC_ACQUIRE) != (int)call)
            continue;
        if (call == ANSWER && slot->port != here)
            continue;
        if ((call == REQUEST || call == REPLY) && slot->port != there)
            continue;
        int hit = __atomic_fetch_add(&slot->hits, 1, __ATOMIC_ACQ_REL);
        if (!act && hit >= slot->skip && hit - slot->skip < slot->times)
            act = slot->act;
    }
    return act;
}

static int is_meant(int fd) {
    char link[64], path[4096];
    if (!slots || !name)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return strstr(path, name) != NULL;
}

/* A call on a file that writes nothing. */
static long plain(int act, long number, long a, long b) {
    if (act == KILL_BEFORE)
        die();
    if (act > 0) {
        errno = act;
        return -1;
    }
    long result = syscall(number, a, b);
    if (act == KILL_AFTER)
        die();
    return result;
}

static long put(int fd, const struct iovec *parts, int count, int flags, int is_socket) {
    int act = 0;
    if (slots && is_socket) {
        int here = port(fd, getsockname), there = port(fd, getpeername);
        act = ask(ANSWER, here, there);
        if (!act)
            act = ask(REQUEST, here, there);
    } else if (is_meant(fd)) {
        act = ask(WRITE, 0, 0);
    }
    if (act == KILL_BEFORE)
        die();
    if (act > 0) {
        errno = act;
        return -1;
    }
    struct iovec half;
    if (act == HALF || act == KILL_HALFWAY) {
        half = parts[0];
        half.iov_len = half.iov_len / 2;
        parts = &half;
        count = 1;
    }
    long result;
    if (is_socket) {
        struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
        result = syscall(SYS_sendmsg, fd, &message, flags);
    } else {
        result = syscall(SYS_writev, fd, parts, count);
    }
    if (act == KILL_AFTER || act == KILL_HALFWAY)
        die();
    return result;
}

static int is_socket(int fd) {
    int type;
    socklen_t size = sizeof type;
    return slots && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    struct iovec part = {(void *)bytes, size};
    return put(fd, &part, 1, 0, is_socket(fd));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return put(fd, parts, count, 0, is_socket(fd));
}

ssize_t send(int fd, const void *bytes, size_t size, int flags) {
    struct iovec part = {(void *)bytes, size};
    return put(fd, &part, 1, flags, 1);
}

static ssize_t got(int fd, ssize_t result) {
    if (slots && result > 0 && ask(REPLY, 0, port(fd, getpeername)))
        die();
    return result;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags) {
    return got(fd, syscall(SYS_recvfrom, fd, bytes, size, flags, NULL, NULL));
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    int act = is_meant(fd) ? ask(WRITE, 0, 0) : 0;
    if (act == KILL_BEFORE)
        die();
    if (act > 0) {
        errno = act;
        return -1;
    }
    if (act == HALF || act == KILL_HALFWAY)
        size /= 2;
    ssize_t result = syscall(SYS_pwrite64, fd, bytes, size, at);
    if (act == KILL_AFTER || act == KILL_HALFWAY)
        die();
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    return pwrite64(fd, bytes, size, at);
}

int fsync(int fd) {
    return plain(is_meant(fd) ? ask(SYNC, 0, 0) : 0, SYS_fsync, fd, 0);
}

int fdatasync(int fd) {
    return plain(is_meant(fd) ? ask(SYNC, 0, 0) : 0, SYS_fdatasync, fd, 0);
}

int ftruncate64(int fd, off64_t size) {
    return plain(is_meant(fd) ? ask(CUT, 0, 0) : 0, SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int act = slots && name && strstr(path, name) ? ask(OPEN, 0, 0) : 0;
    if (act == KILL_BEFORE)
        die();
    if (act > 0) {
        errno = act;
        return -1;
    }
    int fd = syscall(SYS_openat, folder, path, flags, mode);
    if (act == KILL_AFTER)
        die();
    return fd;
}

#define MODE(flags, mode)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return opened(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return opened(AT_FDCWD, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return opened(folder, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return opened(folder, path, flags, mode);
}
