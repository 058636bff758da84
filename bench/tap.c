/*
 * What a network namespace spends on a frame: writes to a TAP device, which runs the receive path before it returns.
 *
 *   tap BATCH ROUNDS NAMESPACE=FRAMES...
 *
 * Makes eth0 in each of the namespaces, and a UDP socket on port 9 that nobody reads; says "ready", and waits for a
 * line. Then in each round, forwards and backwards by turns, writes BATCH frames to each eth0, and prints the number
 * of the namespace and the nanoseconds per frame. FRAMES is a file with a frame a line, in hexadecimal.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FRAMES = 256, LONGEST_FRAME = 256, DISCARD_PORT = 9 };

struct link {
    int tap;
    int frames;
    struct { unsigned char bytes[LONGEST_FRAME]; size_t length; } frame[MOST_FRAMES];
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void enter(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int namespace = open(path, O_RDONLY);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET)) fail(path);
    close(namespace);
}

static int make_tap(void)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    int tap = open("/dev/net/tun", O_RDWR);
    strcpy(request.ifr_name, "eth0");
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request)) fail("TUNSETIFF");
    return tap;
}

/* Soon it is full: what arrives is dropped where an application would have read it. */
static void make_deaf_socket(void)
{
    struct sockaddr_in6 everywhere = { .sin6_family = AF_INET6, .sin6_port = htons(DISCARD_PORT) };
    int deaf = socket(AF_INET6, SOCK_DGRAM, 0), small = 1;
    if (deaf < 0 || setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &small, sizeof small)) fail("socket");
    if (bind(deaf, (struct sockaddr *)&everywhere, sizeof everywhere)) fail("bind");
}

static void read_frames(struct link *link, const char *path)
{
    char line[2 * LONGEST_FRAME + 2];
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    while (link->frames < MOST_FRAMES && fgets(line, sizeof line, file)) {
        unsigned char *byte = link->frame[link->frames].bytes;
        for (char *digits = line; sscanf(digits, "%2hhx", byte) == 1; digits += 2) byte++;
        link->frame[link->frames].length = byte - link->frame[link->frames].bytes;
        link->frames++;
    }
    fclose(file);
    if (!link->frames) fail("no frames");
}

static double send_batch(struct link *link, int batch)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < batch; i++) {
        int n = i % link->frames;
        if (write(link->tap, link->frame[n].bytes, link->frame[n].length) < 0) fail("write");
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / batch;
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    int batch = atoi(argv[1]), rounds = atoi(argv[2]), count = argc - 3;
    struct link *links = calloc(count, sizeof *links);
    for (int i = 0; i < count; i++) {
        char *frames = strchr(argv[3 + i], '=');
        if (!frames) return 2;
        *frames++ = 0;
        read_frames(&links[i], frames);
        enter(argv[3 + i]);
        links[i].tap = make_tap();
        make_deaf_socket();
    }
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    for (int round = 0; round < rounds; round++)
        for (int turn = 0; turn < count; turn++) {
            int i = round % 2 ? count - 1 - turn : turn;
            printf("%d %.1f\n", i, send_batch(&links[i], batch));
        }
    return 0;
}
