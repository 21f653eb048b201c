#include "kernels/comm/gloo_communicator.h"

#include <gloo/common/error.h>
#include <gloo/transport/context.h>
#include <gloo/transport/tcp/device.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "common/check.h"

namespace tandem::kernels {
namespace {

constexpr size_t kHeader = 64;  // of a slot; keeps the payload aligned

using Slots = std::array<std::unique_ptr<std::byte[]>, 2>;  // by round & 1

Slots MakeSlots(size_t bytes) {
  Slots slots;
  for (auto& slot : slots) slot = std::make_unique_for_overwrite<std::byte[]>(kHeader + bytes);
  return slots;
}

// Gloo's text less the place in its source.
std::string Reason(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return text.starts_with('[') && end != std::string::npos ? text.substr(end + 2) : text;
}

// Gloo looks for itself, but leaks what it has looked up where it does not find anything.
Status CheckAddress(const std::string& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(address.c_str(), nullptr, &hints, &found); error != 0) {
    return InvalidArgument("{} is no address: {}", address, ::gai_strerror(error));
  }
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool ours = fd >= 0 && ::bind(fd, found->ai_addr, found->ai_addrlen) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  ::freeaddrinfo(found);
  return ours ? OkStatus()
              : InvalidArgument("cannot listen on {} for the other ranks: {}", address,
                                std::strerror(error));
}

}  // namespace

// Made whole before there is a connection, and constant from then on, so that Abort() may walk over
// it at any time.
struct GlooCommunicator::Mesh {
  using Buffers = std::array<std::unique_ptr<gloo::transport::Buffer>, 2>;  // by round & 1
  struct Peer {
    gloo::transport::Pair* pair = nullptr;  // null: this rank itself
    Slots slots;
    Buffers send, receive;
    std::unique_ptr<gloo::transport::Buffer> last;  // for Lose() alone
  };

  std::shared_ptr<gloo::transport::Device> device;
  std::shared_ptr<gloo::transport::Context> context;  // owns the pairs
  Slots own;
  std::vector<Peer> peers;  // by rank; their buffers refer to the pairs
};

StatusOr<std::unique_ptr<GlooCommunicator>> GlooCommunicator::Create(const std::string& address,
                                                                     int rank, int size,
                                                                     size_t max_bytes) {
  TANDEM_CHECK(size >= 2 && size <= kMaxRanks && rank >= 0 && rank < size)
      << "rank " << rank << " of " << size;
  TANDEM_RETURN_IF_ERROR(CheckAddress(address));
  auto mesh = std::make_unique<Mesh>();
  try {
    mesh->device = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(address.c_str()));
    mesh->context = mesh->device->createContext(rank, size);
    mesh->context->setTimeout(gloo::kNoTimeout);
    mesh->own = MakeSlots(max_bytes);
    mesh->peers.resize(static_cast<size_t>(size));
    for (int r = 0; r < size; ++r) {
      if (r == rank) continue;
      Mesh::Peer& peer = mesh->peers[static_cast<size_t>(r)];
      peer.pair = mesh->context->createPair(r).get();
      peer.slots = MakeSlots(max_bytes);
      peer.last = peer.pair->createSendBuffer(2, mesh->own[0].get(), 0);
      for (int i = 0; i < 2; ++i) {
        peer.send[i] = peer.pair->createSendBuffer(i, mesh->own[i].get(), kHeader + max_bytes);
        peer.receive[i] = peer.pair->createRecvBuffer(i, peer.slots[i].get(), kHeader + max_bytes);
      }
    }
  } catch (const std::exception& error) {
    return InvalidArgument("cannot listen on {} for the other ranks: {}", address, Reason(error));
  }
  return std::unique_ptr<GlooCommunicator>(
      new GlooCommunicator(std::move(mesh), rank, size, max_bytes));
}

GlooCommunicator::GlooCommunicator(std::unique_ptr<Mesh> mesh, int rank, int size, size_t max_bytes)
    : RoundCommunicator(rank, size, max_bytes), mesh_(std::move(mesh)) {
  static_assert(sizeof(Call) <= kHeader);
}

// Not a hard close: what was sent in the last round may still be on its way.
GlooCommunicator::~GlooCommunicator() = default;

std::string GlooCommunicator::addresses() const {
  std::string all;
  for (const Mesh::Peer& peer : mesh_->peers) {
    if (peer.pair == nullptr) continue;
    const std::vector<char> one = peer.pair->address().bytes();
    all.append(one.begin(), one.end());
  }
  return all;
}

Status GlooCommunicator::Connect(std::span<const std::string> all) {
  TANDEM_CHECK(static_cast<int>(all.size()) == size()) << all.size() << " ranks";
  const size_t each = all[static_cast<size_t>(rank())].size() / static_cast<size_t>(size() - 1);
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    const std::string& theirs = all[static_cast<size_t>(r)];
    if (theirs.size() != each * static_cast<size_t>(size() - 1)) {
      return InvalidArgument("rank {} sent {} bytes of addresses", r, theirs.size());
    }
    // It has one for every rank but itself.
    const size_t at = each * static_cast<size_t>(r < rank() ? rank() - 1 : rank());
    try {
      mesh_->peers[static_cast<size_t>(r)].pair->connect(
          std::vector<char>(theirs.begin() + at, theirs.begin() + at + each));
    } catch (const std::exception& error) {
      Lose(Unavailable("no connection between ranks {} and {}: {}", rank(), r, Reason(error)));
    }
    if (lost()) return Poll();
  }
  Barrier();  // whoever it is at the other end, it is in the same round
  return Poll();
}

std::byte* GlooCommunicator::SlotToWrite() const {
  return mesh_->own[(round_ + 1) & 1].get() + kHeader;
}

const std::byte* GlooCommunicator::SlotToRead(int of) const {
  const Slots& slots = of == rank() ? mesh_->own : mesh_->peers[static_cast<size_t>(of)].slots;
  return slots[round_ & 1].get() + kHeader;
}

bool GlooCommunicator::Meet(const Call& call, size_t bytes, Share share) {
  if (lost()) return false;
  ++round_;
  const int parity = static_cast<int>(round_ & 1);
  std::memcpy(mesh_->own[parity].get(), &call, sizeof(call));
  const int parts = share == Share::kParts ? 2 : 1;  // messages to each peer
  int at = 0;
  try {
    for (at = 0; at < size(); ++at) SendTo(at, bytes, share);
    for (int part = 0; part < parts; ++part) {
      for (at = 0; at < size() && !lost(); ++at) {
        if (at != rank()) mesh_->peers[static_cast<size_t>(at)].receive[parity]->waitRecv();
      }
      // Before the second message is waited for: it comes only if the calls are equal.
      if (lost() || (part == 0 && !AllAgree(call))) return false;
    }
    // Mostly done long ago; the slot is written again in the round after next.
    for (at = 0; at < size() && !lost(); ++at) {
      for (int part = 0; part < parts && at != rank(); ++part) {
        mesh_->peers[static_cast<size_t>(at)].send[parity]->waitSend();
      }
    }
  } catch (const std::exception& error) {
    Lose(Unavailable("rank {} lost rank {}: {}", rank(), at, Reason(error)));
  }
  return !lost();
}

void GlooCommunicator::SendTo(int peer, size_t bytes, Share share) {
  if (peer == rank()) return;
  gloo::transport::Buffer& slot = *mesh_->peers[static_cast<size_t>(peer)].send[round_ & 1];
  if (share == Share::kAll) {
    slot.send(0, kHeader + bytes, 0);
    return;
  }
  const size_t floats = bytes / sizeof(float);
  const size_t begin = kHeader + PartBegin(floats, peer) * sizeof(float);
  const size_t end = kHeader + PartBegin(floats, peer + 1) * sizeof(float);
  slot.send(0, kHeader, 0);
  slot.send(begin, end - begin, begin);
}

// Everybody has everybody's call, so all ranks see it alike and nobody has to be told.
bool GlooCommunicator::AllAgree(const Call& call) {
  for (int peer = 0; peer < size(); ++peer) {
    Call theirs;
    std::memcpy(&theirs, SlotToRead(peer) - kHeader, sizeof(theirs));
    if (theirs == call) continue;
    MutexLock lock(mutex_);
    if (!lost()) why_ = Internal("{}", Mismatch(call, peer, theirs));
    lost_.store(true, std::memory_order_release);
    return false;
  }
  return true;
}

// Ends all waits here and, as the connections break, those for this rank.
void GlooCommunicator::Lose(Status why) {
  {
    MutexLock lock(mutex_);
    if (!lost()) why_ = std::move(why);
    lost_.store(true, std::memory_order_release);
  }
  for (Mesh::Peer& peer : mesh_->peers) {
    if (peer.pair == nullptr) continue;
    peer.pair->close();
    // That wakes nobody here. To send over a closed connection does: it is an error, which Gloo
    // tells all that wait for the pair.
    try {
      peer.last->send();
    } catch (const std::exception&) {
    }
  }
}

void GlooCommunicator::Abort() { Lose(Unavailable("rank {} aborted the group", rank())); }

Status GlooCommunicator::Poll() {
  MutexLock lock(mutex_);
  return why_;
}

}  // namespace tandem::kernels
