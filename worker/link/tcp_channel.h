// One TCP connection between two ranks: whole frames out and in, without ever waiting. Messages of
// the handshake wait in a mailbox for whoever asks for them; other frames go to the link thread's
// handler (tcp_transport.h), in the order in which they came.
//
// Thread: Send, Receive and End any; the rest the link thread.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

// Ends the link thread's wait.
class WakeUp {
 public:
  WakeUp();
  int fd() const { return fd_.get(); }
  void Ring();
  void Clear();  // the link thread, once awake

 private:
  UniqueFd fd_;
};

enum class FrameType : uint32_t {
  kMessage = 1,  // of the handshake
  kState,        // what the sender knows of how far ranks are
  kPlan,         // a step's plan, from the leader
};

class TcpChannel {
 public:
  // `socket` is connected and non-blocking.
  TcpChannel(UniqueFd socket, std::shared_ptr<WakeUp> wake_up);

  const std::string& name() const { return name_; }  // of the other end: "10.0.0.2:40112"
  const std::string& local_address() const { return local_address_; }  // without port

  // What this end has taken the other for; -1: has not yet.
  int rank() const { return rank_.load(std::memory_order_acquire); }
  void set_rank(int rank) { rank_.store(rank, std::memory_order_release); }

  // One frame. What the connection does not take at once follows as soon as it does.
  // kUnavailable: it has ended.
  Status Send(FrameType type, std::span<const std::byte> frame);
  bool has_unsent() const;

  // The next message; see RankPeer.
  Status Receive(std::span<std::byte> message, int stop_fd);
  int mail_fd() const { return mail_.fd(); }  // readable: there is a message, or it has ended
  int end_fd() const { return end_.fd(); }    // readable: it has ended
  bool has_mail() const;

  // Ends the connection, now. `why` is what Receive says once the mailbox is empty.
  void End(const Status& why);
  bool ended() const;

  // Ends it as soon as all is sent.
  void EndWhenSent();

  pollfd interest() const;
  // Reads what is there. Messages go to the mailbox, other whole frames to `handle`; if that says
  // false, the frame and those after it stay for the next Read. End() comes after all frames.
  using Handler = std::function<bool(FrameType, std::span<const std::byte>)>;
  void Read(const Handler& handle);
  bool held() const { return held_; }
  void Flush();

 private:
  bool Fill();
  void Parse(const Handler& handle);
  bool Deliver(std::span<const std::byte> message);
  void FlushLocked() TANDEM_REQUIRES(mutex_);
  void EndLocked(const Status& why) TANDEM_REQUIRES(mutex_);

  const UniqueFd socket_;  // stays open, shut down once ended: its number is polled
  const std::shared_ptr<WakeUp> wake_up_;
  std::string name_, local_address_;
  std::atomic<int> rank_{-1};
  WakeUp mail_, end_;

  // The link thread's.
  std::vector<std::byte> in_;
  size_t parsed_ = 0;  // bytes of in_ that are done with
  bool held_ = false;  // the handler did not want the frame that is next
  Status read_end_;    // why nothing more comes

  mutable Mutex mutex_;
  std::string out_ TANDEM_GUARDED_BY(mutex_);
  bool end_when_sent_ TANDEM_GUARDED_BY(mutex_) = false;
  std::deque<std::string> mailbox_ TANDEM_GUARDED_BY(mutex_);
  Status end_status_ TANDEM_GUARDED_BY(mutex_);
};

}  // namespace tandem::link
