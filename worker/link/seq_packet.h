// Messages between ranks before there is shared memory: fixed structs over a Unix SOCK_SEQPACKET
// socket, one of them with a file descriptor. Same machine, same build: no encoding.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "common/status.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

inline constexpr uint32_t kRankProtocol = 0x54444d31;  // "TDM1": changes with the structs below

struct Text {
  char bytes[256] = {};
  void operator=(std::string_view s) {
    const size_t n = s.size() < sizeof(bytes) ? s.size() : sizeof(bytes) - 1;
    std::memcpy(bytes, s.data(), n);
    bytes[n] = 0;
  }
  std::string str() const { return std::string(bytes, ::strnlen(bytes, sizeof(bytes))); }
};

struct JoinMessage {
  uint32_t protocol = kRankProtocol;
  int32_t rank = 0;
  int32_t tp = 0;
  Text build;
  Text settings;
};

struct LoadedMessage {
  int32_t num_blocks = 0;
  Text fingerprint;
  Text instruction_set;
};

// To a rank: Joined and Go carry a memory file.
struct Answer {
  enum : int32_t { kFits = 0, kMistake = 1, kTaken = 2 };
  int32_t refused = kFits;  // kTaken: there is such a rank, which may be on its way out
  int32_t num_blocks = 0;
  Text reason;
};

// kUnavailable: the peer is gone. `fd` -1: none to send.
Status SendPacket(int socket, const void* data, size_t size, int fd = -1);

// Waits for a packet of exactly `size` bytes; a descriptor with it lands in `fd` if that is not
// null. kUnavailable: the peer is gone; kCancelled: `stop_fd` became readable; kInvalidArgument:
// something else than a packet of this size came.
Status ReceivePacket(int socket, void* data, size_t size, int stop_fd, UniqueFd* fd = nullptr);

// Waits until `fd` is readable. kCancelled as above; kUnavailable after `timeout_ms` (-1: never).
Status WaitReadable(int fd, int stop_fd, int timeout_ms);

}  // namespace tandem::link
