/* The floor: what a connection costs a server that does nothing else. Two processes, each with an epoll of its own, share
 * one listener. Prints the port. Ends with its standard input. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROCESSES = 2, EVENTS = 64 };

static void answer(int connection)
{
    char input[4096], output[7 * 4096];
    ssize_t got = recv(connection, input, sizeof input, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            close(connection);
        return;
    }
    size_t length = 0;
    for (ssize_t i = 0; i < got; i++)
        if (input[i] == '\n') {
            memcpy(output + length, "+PONG\r\n", 7);
            length += 7;
        }
    if (send(connection, output, length, MSG_NOSIGNAL) < 0)
        close(connection);
}

static void serve(int listener)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd != listener) {
                answer(ready[i].data.fd);
                continue;
            }
            int connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (connection < 0)
                continue;
            event.data.fd = connection;
            epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &event);
        }
    }
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 2048))
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
