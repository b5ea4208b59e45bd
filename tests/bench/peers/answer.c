/* The floor for datagrams: answers every DNS query with the same address. Two processes share one socket; each takes what
 * is there before it waits again. Prints the port. Ends with its standard input. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROCESSES = 2, HEADER = 12 };

static void serve(int listener)
{
    static const unsigned char record[] = {0xc0, HEADER, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 10};
    for (;;) {
        unsigned char message[600];
        struct sockaddr_in client;
        socklen_t size = sizeof client;
        ssize_t length = recvfrom(listener, message, 512, 0, (struct sockaddr *)&client, &size);
        if (length <= HEADER + 4)
            continue;
        ssize_t question = HEADER;
        while (question < length && message[question])
            question += message[question] + 1;
        length = question + 5; /* the question alone: what follows it, as EDNS, is not repeated */
        message[2] |= 0x84;    /* an authoritative answer */
        message[7] = 1;        /* one record */
        message[11] = 0;
        memcpy(message + length, record, sizeof record);
        sendto(listener, message, length + sizeof record, 0, (struct sockaddr *)&client, size);
    }
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size))
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(listener);
        }
    for (char byte; read(0, &byte, 1) > 0;) {
    }
    return 0; /* the children die with us */
}
