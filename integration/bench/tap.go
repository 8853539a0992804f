package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ipUDP is the length of the headers before a datagram's text: IPv4 without options, and UDP.
const ipUDP = 28

// tap returns a packet socket on the loopback interface that sees what the phones at one port
// answer with 200 to the proxy at another, and nothing else: the filter runs in the kernel, so
// that watching costs little. The kernel's time of a packet is when its sender let go of it, as
// for a UDP socket.
func tap(proxy, phones int) (*datagrams, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("a packet socket (needs root, or CAP_NET_RAW): %w", err)
	}
	const (
		load, loadHalf, loadByte = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal, ret               = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		packetType               = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
		toHost                   = 0              // PACKET_HOST: every packet shows once as outgoing, too
	)
	program := []unix.SockFilter{
		{Code: load, K: packetType}, {Code: equal, K: toHost, Jf: 9},
		{Code: loadByte, K: 9}, {Code: equal, K: unix.IPPROTO_UDP, Jf: 7},
		{Code: loadHalf, K: 20}, {Code: equal, K: uint32(phones), Jf: 5},
		{Code: loadHalf, K: 22}, {Code: equal, K: uint32(proxy), Jf: 3},
		{Code: load, K: ipUDP + 8}, {Code: equal, K: 0x32303020, Jf: 1}, // "200 "
		{Code: ret, K: datagramRoom},
		{Code: ret, K: 0},
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return nil, fmt.Errorf("a packet filter: %w", err)
	}
	const ip = 0x0008 // ETH_P_IP, in the network's order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: 1}); err != nil {
		return nil, fmt.Errorf("packets of the loopback interface: %w", err)
	}
	return newDatagrams(fd)
}
