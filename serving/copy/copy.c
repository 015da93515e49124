/* Copies the weights out of an image that holds nothing but weights.
 *
 *     copy --to DIR SOURCE...
 *
 * It runs in a container of that image, so it is one static file and needs no shell and no libraries. Each file
 * is written under another name, synced and renamed, so that a file under its own name is whole; one that is
 * there already with the same size is left alone, since a container may be started again.
 *
 * Exit codes are those of sysexits.h: 64 usage, 66 no such file, 73 cannot be written, 74 read error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { USAGE = 64, NO_INPUT = 66, CANNOT_WRITE = 73, IO_ERROR = 74 };
enum { PIECE = 1 << 22, PATH = 4096, EVERY_SECONDS = 10 };
static const double MIB = 1024.0 * 1024.0;

/* Kubernetes shows the last lines of the log as the reason why a container ended. */
static void end(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(code);
}

static void make_folders(const char *folder) {
    char path[PATH];
    if (snprintf(path, sizeof path, "%s", folder) >= (int)sizeof path) end(USAGE, "%s: too long", folder);
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0') continue;
        char kept = *at;
        *at = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST) end(CANNOT_WRITE, "%s: %s", path, strerror(errno));
        *at = kept;
        if (kept == '\0') return;
    }
}

static int open_source(const char *path, struct stat *found) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        end(NO_INPUT, "the weights image has no %s: see that the Workspace names the right image and file", path);
    if (file < 0) end(NO_INPUT, "%s: %s", path, strerror(errno));
    if (fstat(file, found) != 0) end(IO_ERROR, "%s: %s", path, strerror(errno));
    if (!S_ISREG(found->st_mode) || found->st_size == 0) end(NO_INPUT, "%s is empty, or is no file", path);
    return file;
}

static const char *base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void join(char *path, const char *folder, const char *prefix, const char *name) {
    if (snprintf(path, PATH, "%s/%s%s", folder, prefix, name) >= PATH) end(USAGE, "%s: too long", name);
}

static void write_all(int file, const char *data, ssize_t left, const char *path) {
    while (left > 0) {
        ssize_t count = write(file, data, (size_t)left);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) end(CANNOT_WRITE, "%s: %s", path, strerror(errno));
        data += count;
        left -= count;
    }
}

static void copy_bytes(int from, int to, off_t size, const char *source, const char *target) {
    static char piece[PIECE];
    off_t done = 0;
    time_t told = time(NULL);
    posix_fadvise(from, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t count = read(from, piece, sizeof piece);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) end(IO_ERROR, "%s: %s", source, strerror(errno));
        if (count == 0) break;
        write_all(to, piece, count, target);
        done += count;
        if (time(NULL) - told >= EVERY_SECONDS) {
            told = time(NULL);
            fprintf(stderr, "%s: %.0f of %.0f MiB\n", base(source), (double)done / MIB, (double)size / MIB);
        }
    }
    if (done != size) end(IO_ERROR, "%s: read %lld bytes of %lld", source, (long long)done, (long long)size);
}

static void sync_folder(const char *folder) {
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;
    fsync(file); /* Some network file systems have no such thing for folders. */
    close(file);
}

static int is_there(const char *target, off_t size) {
    struct stat found;
    return stat(target, &found) == 0 && S_ISREG(found.st_mode) && found.st_size == size;
}

static void copy(const char *folder, const char *source) {
    char target[PATH], temporary[PATH];
    struct stat found;
    int from = open_source(source, &found);
    join(target, folder, "", base(source));
    join(temporary, folder, ".copying-", base(source));
    if (is_there(target, found.st_size)) {
        fprintf(stderr, "%s: is here already\n", base(source));
        close(from);
        return;
    }
    int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (to < 0) end(CANNOT_WRITE, "%s: %s", temporary, strerror(errno));
    copy_bytes(from, to, found.st_size, source, target);
    if (fsync(to) != 0 || close(to) != 0) end(CANNOT_WRITE, "%s: %s", target, strerror(errno));
    if (rename(temporary, target) != 0) end(CANNOT_WRITE, "%s: %s", target, strerror(errno));
    close(from);
    fprintf(stderr, "%s: %.0f MiB copied\n", base(source), (double)found.st_size / MIB);
}

/* Room for all of them is looked for before the first byte. */
static void must_have_room(const char *folder, int count, char **sources) {
    double needed = 0;
    for (int i = 0; i < count; i++) {
        char target[PATH];
        struct stat found;
        close(open_source(sources[i], &found));
        join(target, folder, "", base(sources[i]));
        if (!is_there(target, found.st_size)) needed += (double)found.st_size;
    }
    struct statvfs room;
    if (statvfs(folder, &room) != 0) return;
    double free_bytes = (double)room.f_bavail * (double)room.f_frsize;
    if (free_bytes < needed)
        end(CANNOT_WRITE, "%s has %.0f MiB free, and %.0f MiB are needed", folder, free_bytes / MIB, needed / MIB);
}

int main(int count, char **arguments) {
    if (count < 4 || strcmp(arguments[1], "--to") != 0) end(USAGE, "usage: copy --to DIR SOURCE...");
    const char *folder = arguments[2];
    make_folders(folder);
    must_have_room(folder, count - 3, arguments + 3);
    for (int i = 3; i < count; i++) copy(folder, arguments[i]);
    sync_folder(folder);
    return 0;
}
