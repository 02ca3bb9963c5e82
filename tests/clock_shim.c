/* Moves the wall clock of one process: preloaded, it adds the offset (nanoseconds, a native 64-bit
 * integer) that stands in the file named by MUMBAI_MESH_CLOCK_OFFSET_FILE. The file is mapped, so a
 * running process follows later changes. The monotonic clock is left alone.
 *
 * Raw system calls only: Envoy's allocator asks for the time before the dynamic linker is ready for
 * anything else. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

extern char **environ;

static const volatile int64_t *mapped;
static int looked;

static const char *offset_file(void) {
    static const char name[] = "MUMBAI_MESH_CLOCK_OFFSET_FILE=";
    for (char **entry = environ; entry && *entry; entry++) {
        unsigned at = 0;
        while (name[at] && (*entry)[at] == name[at]) at++;
        if (!name[at]) return *entry + at;
    }
    return 0;
}

static int64_t offset(void) {
    if (!looked) {
        const char *path = offset_file();
        if (!path) return 0;
        int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        if (file >= 0) {
            void *memory = (void *)syscall(SYS_mmap, 0, 8, PROT_READ, MAP_SHARED, file, 0);
            if (memory != MAP_FAILED) mapped = memory;
            syscall(SYS_close, file);
        }
        looked = 1;
    }
    return mapped ? *mapped : 0;
}

static void move(struct timespec *time) {
    int64_t by = offset(); /* Read once: it may change between two readings. */
    int64_t nanos = time->tv_nsec + by % SECOND;
    time->tv_sec += by / SECOND;
    if (nanos < 0) { nanos += SECOND; time->tv_sec -= 1; }
    if (nanos >= SECOND) { nanos -= SECOND; time->tv_sec += 1; }
    time->tv_nsec = nanos;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) move(time);
    return (int)result;
}

int gettimeofday(struct timeval *restrict value, void *restrict zone) {
    (void)zone;
    struct timespec time;
    if (clock_gettime(CLOCK_REALTIME, &time)) return -1;
    value->tv_sec = time.tv_sec;
    value->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* C11; newer C++ libraries and command line tools ask this way. */
int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}
