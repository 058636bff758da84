/* Ask one address from a few sources at short intervals, and keep what became of every probe.
 *
 *   probes FILE ADDRESS PORT INTERVAL_NS SOURCE...
 *
 * Probe k is due k / (number of sources) intervals after the start, from source k modulo their number; what could
 * not be sent on time is sent as soon as possible. It says "started NS" (CLOCK_MONOTONIC), then "SOURCE NODE"
 * whenever another node than before answers a source first. At the end of its input it waits for late answers,
 * and writes one struct probe each to FILE. An answer is a node's name, a letter and a number, a blank, and what was
 * asked.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_SOURCES 64
#define BATCH 32
#define SECOND 1000000000LL
/* after the last probe: for second answers, and for missing first ones */
#define SHORT_GRACE (SECOND / 10)
#define LONG_GRACE (SECOND * 3 / 10)

struct probe {
    uint16_t source;
    uint8_t answers, node, second_node, unused[3];
    int64_t due, sent, answered, answered_again;
};

struct question {
    uint32_t run, number;
};

static struct probe *probes;
static size_t sent, room, unanswered;
static int sources, last_node[MOST_SOURCES];
static struct pollfd polled[MOST_SOURCES + 1];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

static int connected(const char *source, const char *address, int port) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = 1 << 20;
    if (inet_pton(AF_INET, source, &from.sin_addr) != 1 || inet_pton(AF_INET, address, &to.sin_addr) != 1) {
        fprintf(stderr, "not an IPv4 address: %s or %s\n", source, address);
        exit(1);
    }
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (bind(descriptor, (struct sockaddr *)&from, sizeof from) < 0) die(source);
    if (connect(descriptor, (struct sockaddr *)&to, sizeof to) < 0) die(address);
    return descriptor;
}

static void ask(int64_t due) {
    struct question question = {.run = getpid(), .number = sent};
    if (sent == room) {
        room = room ? 2 * room : 1 << 16;
        probes = realloc(probes, room * sizeof *probes);
        if (!probes) die("memory");
    }
    struct probe *probe = &probes[sent];
    memset(probe, 0, sizeof *probe);
    probe->source = sent % sources;
    probe->due = due;
    probe->sent = now();
    /* a first failure may only report an ICMP error about an earlier probe; after the second it counts as lost */
    if (send(polled[probe->source].fd, &question, sizeof question, 0) < 0)
        (void)!send(polled[probe->source].fd, &question, sizeof question, 0);
    sent++;
    unanswered++;
}

static void count(const char *answer, ssize_t length, int source) {
    struct question question;
    if (length < (ssize_t)sizeof question + 3) return;
    memcpy(&question, answer + length - sizeof question, sizeof question);
    if (question.run != (uint32_t)getpid() || question.number >= sent) return;
    struct probe *probe = &probes[question.number];
    if (probe->source != source) return;
    int node = atoi(answer + 1);
    if (!probe->answers) {
        unanswered--;
        probe->node = node;
        probe->answered = now();
        if (node != last_node[source]) {
            last_node[source] = node;
            printf("%d %d\n", source, node);
            fflush(stdout);
        }
    } else if (probe->answers == 1) {
        probe->second_node = node;
        probe->answered_again = now();
    }
    if (probe->answers < 255) probe->answers++;
}

/* Take what has come, waiting for it no longer than until then; returns 0 at the end of the input. */
static int receive_until(int64_t then) {
    char answer[2048];
    int64_t wait = then - now();
    struct timespec timeout = {wait > 0 ? wait / SECOND : 0, wait > 0 ? wait % SECOND : 0};
    int ready = ppoll(polled, sources + 1, &timeout, NULL);
    for (int source = 0; ready > 0 && source < sources; source++) {
        if (!polled[source].revents) continue;
        ssize_t length;
        while ((length = recv(polled[source].fd, answer, sizeof answer - 1, 0)) > 0) {
            answer[length] = 0;
            count(answer, length, source);
        }
    }
    if (ready > 0 && polled[sources].revents) {
        if (read(0, answer, sizeof answer) > 0) return 1;
        polled[sources].fd = -1;
        return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc - 5 > MOST_SOURCES) {
        fprintf(stderr, "usage: probes FILE ADDRESS PORT INTERVAL_NS SOURCE... (at most %d)\n", MOST_SOURCES);
        return 2;
    }
    sources = argc - 5;
    for (int source = 0; source < sources; source++)
        polled[source] = (struct pollfd){.fd = connected(argv[5 + source], argv[2], atoi(argv[3])), .events = POLLIN};
    polled[sources] = (struct pollfd){.fd = 0, .events = POLLIN};
    int64_t step = atoll(argv[4]) / sources, start = now(), due = start;
    printf("started %lld\n", (long long)start);
    fflush(stdout);
    do {
        for (int burst = 0; burst < BATCH && due <= now(); burst++, due += step) ask(due);
    } while (receive_until(due));
    int64_t end = now(), last;
    while ((last = end + (unanswered ? LONG_GRACE : SHORT_GRACE)) > now()) receive_until(last);
    FILE *file = fopen(argv[1], "wb");
    if (!file || fwrite(probes, sizeof *probes, sent, file) != sent || fclose(file)) die(argv[1]);
    return 0;
}
