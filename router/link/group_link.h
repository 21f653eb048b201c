// A router's end of the wire: groups dial in, say what they are, and report every step. Translates
// between routing/messages.h and Protobuf; decides nothing about requests.
//
// One ROUTER socket. What a session is, how it is numbered and what ends it: docs/wire.md. A
// session that ends, for whatever reason, is one OnGroupLost; a group that comes back is a new
// GroupId.
//
// Thread: whoever calls Turn(), and the loop it runs in: the router's I/O thread, so that a token
// wakes one thread of ours and not two.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "router/routing/messages.h"

namespace tandem::link {

struct GroupLinkOptions {
  std::string endpoint;  // "tcp://127.0.0.1:*": any free port
  // Fingerprints (model + tokenizer) of the models this router serves, by name; empty: take any.
  std::map<std::string, std::string> models;
  uint32_t credits = 64;  // reports a group may have unacknowledged
  // A group takes the router for lost after three seconds without any. That its own process died is
  // found at once.
  Nanos ping_interval = 1'000'000'000;
  Nanos silence_slack = 500'000'000;  // beyond what the group itself said
  // Asks for a Turn() soon, on the same thread and not within this call.
  std::function<void()> again;
};

class GroupLink final : public routing::GroupPort {
 public:
  static constexpr Nanos kTurnInterval = 50'000'000;

  // Binds. kInvalidArgument: the endpoint cannot be bound. `listener` is borrowed and called within
  // Turn() only.
  static StatusOr<std::unique_ptr<GroupLink>> Open(const GroupLinkOptions& options,
                                                   routing::GroupListener& listener);
  ~GroupLink() override;

  // Readable: there is work for Turn(). Not to be read or closed.
  int fd() const;
  // Reads what has come, up to a bound, and keeps the sessions alive: when fd() is readable, when
  // asked for, and every kTurnInterval at least.
  void Turn();

  void Send(GroupId group, routing::GenerateRequest request) override;
  void Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index) override;

  const std::string& endpoint() const;  // the real one, with its port
  Nonce nonce() const;                  // of this router's lifetime

  struct Stats {
    std::atomic<uint64_t> sessions_opened{0};
    std::atomic<uint64_t> sessions_lost{0};
    std::atomic<uint64_t> hellos_refused{0};
    std::atomic<uint64_t> wrong_session{0};     // messages dropped and answered with Reset
    std::atomic<uint64_t> malformed{0};         // messages dropped
    std::atomic<uint64_t> unknown_sequence{0};  // tokens dropped: ended, or never sent
    std::atomic<uint64_t> duplicate_tokens{0};  // dropped
    std::atomic<uint64_t> token_gaps{0};        // sequences ended with an error
    std::atomic<uint64_t> snapshots{0};         // asked for
  };
  const Stats& stats() const;

 private:
  class Impl;
  GroupLink() = default;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::link
