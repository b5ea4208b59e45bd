// Go's net package with a goroutine for each connection. Prints the port. Ends with its standard input.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
)

func serve(connection net.Conn) {
	defer connection.Close()
	input := make([]byte, 4096)
	for {
		count, err := connection.Read(input)
		if err != nil {
			return
		}
		lines := bytes.Count(input[:count], []byte("\n"))
		if _, err := connection.Write(bytes.Repeat([]byte("+PONG\r\n"), lines)); err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			connection, err := listener.Accept()
			if err == nil {
				go serve(connection)
			}
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}
