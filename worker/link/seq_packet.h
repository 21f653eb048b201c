// Packets over a Unix SOCK_SEQPACKET socket, some of them with a file descriptor.
#pragma once

#include <cstddef>
#include <span>

#include "common/status.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

// kUnavailable: the peer is gone. `fd` -1: none to send.
Status SendPacket(int socket, std::span<const std::byte> packet, int fd = -1);

// Waits for a packet of exactly this size; a descriptor with it lands in `fd` if that is not
// null. kUnavailable: the peer is gone; kCancelled: `stop_fd` became readable; kInvalidArgument:
// something else than a packet of this size came.
Status ReceivePacket(int socket, std::span<std::byte> packet, int stop_fd, UniqueFd* fd = nullptr);

// Waits until `fd` is readable. kCancelled as above; kUnavailable after `timeout_ms` (-1: never).
Status WaitReadable(int fd, int stop_fd, int timeout_ms);
// The same for poll()'s `events`.
Status WaitFor(int fd, short events, int stop_fd, int timeout_ms);

}  // namespace tandem::link
