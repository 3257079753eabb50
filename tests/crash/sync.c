/* Stands in for the syncs of a process (LD_PRELOAD). With SYNC_FAILS_AT=0 every sync says yes and does nothing;
 * with SYNC_FAILS_AT=N the Nth fails as a broken disk would and prints `sync NAME`, and all others are done. With
 * SYNC_DIES_AT=N the process is killed before the Nth. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long syncs;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : -1;
}

static int stand_in(long call, int file) {
    long failing = number("SYNC_FAILS_AT"), now = atomic_fetch_add(&syncs, 1) + 1;
    if (failing == 0) return 0;
    if (now == number("SYNC_DIES_AT")) raise(SIGKILL);
    if (now == failing) {
        char link[64], name[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, name, sizeof name);
        dprintf(STDOUT_FILENO, "sync %.*s\n", length > 0 ? (int)length : 0, name);
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return stand_in(SYS_fsync, file); }
int fdatasync(int file) { return stand_in(SYS_fdatasync, file); }
