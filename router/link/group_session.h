// One group as a router sees it, without the socket: checks what comes, keeps account of the
// sequences sent there, repairs the stream of KV events, numbers and encodes what is sent.
//
// Thread: the link's. Time is an argument.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/hash.h"
#include "common/status.h"
#include "router/link/group_link.h"
#include "router/routing/messages.h"

namespace tandem::wire {
class FromRouter;
class FromWorker;
class Hello;
class KvEvents;
class Sequence;
class SnapshotChunk;
class StepReport;
}  // namespace tandem::wire

namespace tandem::link {

// Turns numbered events and snapshots into one stream without gaps, numbered 1, 2, 3, ... A gap
// becomes kCleared at once, the snapshot that repairs it one kStored a block.
class KvEventStream {
 public:
  // `last_event`: what the group had when it said Hello; not 0 means a snapshot is needed.
  explicit KvEventStream(uint64_t last_event) : wants_snapshot_(last_event != 0) {}

  // Appends what may be delivered to `out`. False: malformed, the session must end.
  [[nodiscard]] bool Take(const wire::KvEvents& events, std::vector<routing::KvEvent>& out);
  [[nodiscard]] bool Take(const wire::SnapshotChunk& chunk, std::vector<routing::KvEvent>& out);

  // True once for each snapshot that must be asked for.
  bool TakeSnapshotRequest();

 private:
  void Accept(const routing::KvEvent& event, std::vector<routing::KvEvent>& out);
  void FoundGap(std::vector<routing::KvEvent>& out);
  void Emit(routing::KvEvent event, std::vector<routing::KvEvent>& out);
  bool waiting() const { return wants_snapshot_ || asked_; }

  bool wants_snapshot_;
  bool asked_ = false;
  uint64_t last_ = 0;                     // of the group's numbers, delivered
  uint64_t delivered_ = 0;                // of ours
  std::vector<routing::KvEvent> held_;    // came while a snapshot was awaited
  std::vector<routing::KvEvent> blocks_;  // of the snapshot, so far
  uint32_t next_chunk_ = 0;
};

class GroupSession {
 public:
  GroupSession(GroupId id, const wire::Hello& hello, Nonce session, GroupLink::Stats& stats,
               Nanos now);

  const routing::GroupInfo& info() const { return info_; }
  GroupId id() const { return info_.id; }
  Nonce session() const { return session_; }
  uint64_t attempt() const { return attempt_; }

  // Checks the number of a message of this session. Not OK: the session must end.
  Status CheckNumber(uint64_t number, Nanos now);

  // What a report says, for the listener. Sequences that must be cancelled at the group (tokens
  // were lost) are encoded into `answers`. Not OK: the session must end.
  Status Take(const wire::StepReport& report, Nanos now, routing::StepReport& out,
              std::vector<std::string>& answers);
  // True: `out` has something to deliver.
  StatusOr<bool> Take(const wire::SnapshotChunk& chunk, Nanos now, routing::StepReport& out,
                      std::vector<std::string>& answers);

  std::string EncodeGenerate(const routing::GenerateRequest& request);
  // Empty: the sequence has ended.
  std::string EncodeCancel(RequestId request, uint32_t attempt, uint32_t index);
  std::string EncodeAck();
  std::string EncodeWelcome(Nonce router, uint32_t credits) const;
  // Into `answers`, if one is due.
  void AskForSnapshot(std::vector<std::string>& answers);

  bool ack_due(uint32_t credits) const { return received_ - acked_ >= (credits + 1) / 2; }
  // When the group counts as lost if nothing comes.
  Nanos silent_at(Nanos slack) const { return last_report_ + next_within_ + slack; }
  Nanos last_report() const { return last_report_; }

 private:
  struct Key {
    RequestId request;
    uint32_t attempt;
    uint32_t index;
    bool operator==(const Key&) const = default;
  };
  struct KeyHasher {
    size_t operator()(const Key& k) const {
      return static_cast<size_t>((k.request * 0x9e3779b97f4a7c15u) ^ (uint64_t{k.attempt} << 40) ^
                                 (uint64_t{k.index} << 20));
    }
  };
  // False: nothing of it is to be delivered.
  bool TakeSequence(const wire::Sequence& from, Nanos outbox, routing::SequenceTokens& to,
                    std::vector<std::string>& answers);
  std::string Encode(wire::FromRouter& message);

  routing::GroupInfo info_;
  const Nonce session_;
  const uint64_t attempt_;
  GroupLink::Stats& stats_;
  std::unordered_map<Key, int32_t, KeyHasher> next_index_;  // of sequences not ended
  KvEventStream events_;
  routing::GroupLoad load_;
  Nanos load_at_ = 0;
  uint64_t sent_ = 0, received_ = 0, acked_ = 0;
  Nanos last_report_;
  Nanos next_within_;
};

// Why a Hello cannot be welcomed; empty: it can.
std::string RefusalOf(const wire::Hello& hello, const GroupLinkOptions& options);

}  // namespace tandem::link
