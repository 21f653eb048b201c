#include "worker/link/rank_link.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "common/observe/log.h"
#include "worker/link/rank_messages.h"
#include "worker/link/seq_packet.h"
#include "worker/link/tcp_transport.h"
#include "worker/link/unix_transport.h"

namespace tandem::link {
namespace {

constexpr Nanos kJoinTimeout = kSecond;  // of a process that has connected, to say who it is
constexpr size_t kMaxNewcomers = 64;
constexpr int kTickMs = 50;                // between two beats
constexpr Nanos kFirstWord = 2 * kSecond;  // about ranks that do not come
constexpr Nanos kNextWord = 10 * kSecond;
constexpr size_t kPage = 4096;

size_t CommOffset(int tp) { return (RollCall::RequiredBytes(tp) + kPage - 1) / kPage * kPage; }

std::unique_ptr<RankTransport> TransportFor(const RankLinkOptions& options) {
  if (options.port == 0) {
    return std::make_unique<UnixTransport>(options.runtime_dir, options.group);
  }
  return std::make_unique<TcpTransport>(TcpTransportOptions{.runtime_dir = options.runtime_dir,
                                                            .group = options.group,
                                                            .host = options.host,
                                                            .port = options.port,
                                                            .rank = options.rank,
                                                            .tp = options.tp});
}

}  // namespace

RankLink::RankLink(const RankLinkOptions& options)
    : options_(options), transport_(TransportFor(options)) {}

StatusOr<std::unique_ptr<RankLink>> RankLink::Open(const RankLinkOptions& options) {
  TANDEM_CHECK(options.rank >= 0 && options.rank < options.tp)
      << "rank " << options.rank << " of " << options.tp;
  std::unique_ptr<RankLink> self(new RankLink(options));
  TANDEM_RETURN_IF_ERROR(options.rank == 0 ? self->Lead() : self->JoinLeader());
  return self;
}

Status RankLink::Lead() {
  TANDEM_RETURN_IF_ERROR(transport_->Listen());
  const size_t comm_bytes = transport_->shares_memory() ? options_.comm_bytes : 0;
  TANDEM_ASSIGN_OR_RETURN(SharedRegion memory,
                          SharedRegion::Create(CommOffset(options_.tp) + comm_bytes));
  MapMemory(std::move(memory));
  return OkStatus();
}

void RankLink::MapMemory(SharedRegion memory) {
  memory_ = std::move(memory);
  comm_offset_ = CommOffset(options_.tp);
  roll_call_ = RollCall(memory_.bytes());
  roll_call_.Beat(options_.rank);
  transport_->Keep(roll_call_);
}

Status RankLink::JoinLeader() {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<RankPeer> leader, transport_->Connect(options_.stop_fd));
  JoinMessage join;
  join.rank = options_.rank;
  join.tp = options_.tp;
  join.build = options_.build;
  join.settings = options_.settings;
  TANDEM_RETURN_IF_ERROR(leader->Send(BytesOf(join)));
  const Status answered = WaitReadable(leader->fd(), options_.stop_fd,
                                       static_cast<int>(options_.answer_limit / kMillisecond));
  if (answered.code() == StatusCode::kUnavailable) {
    return Unavailable("the leader of group {} ({}) does not answer; is it stopped?",
                       options_.group, leader->name());
  }
  TANDEM_RETURN_IF_ERROR(answered);
  Answer answer;
  UniqueFd file;
  TANDEM_RETURN_IF_ERROR(leader->Receive(WritableBytesOf(answer), options_.stop_fd, &file));
  if (answer.refused == Answer::kTaken) {
    return Unavailable("refused by the leader: {}", answer.reason.str());
  }
  if (answer.refused != Answer::kFits) {
    return InvalidArgument("refused by the leader: {}", answer.reason.str());
  }
  TANDEM_ASSIGN_OR_RETURN(SharedRegion memory, transport_->shares_memory()
                                                   ? SharedRegion::Map(std::move(file))
                                                   : SharedRegion::Create(CommOffset(options_.tp)));
  if (memory.bytes().size() < CommOffset(options_.tp)) {
    return Internal("the leader's memory has {} bytes", memory.bytes().size());
  }
  MapMemory(std::move(memory));
  leader->Joined(0);
  peers_.push_back({.process = std::move(leader), .rank = 0});
  return OkStatus();
}

Status RankLink::WaitForRanks() {
  if (options_.rank != 0) return OkStatus();
  const Nanos start = MonotonicNow();
  Nanos tell_at = start + kFirstWord;
  while (static_cast<int>(peers_.size()) < options_.tp - 1) {
    if (const Nanos now = MonotonicNow(); now >= tell_at) {
      SayWhoIsMissing(now - start);
      tell_at = now + kNextWord;
    }
    roll_call_.Beat(0);
    std::vector<pollfd> fds = {{options_.stop_fd, POLLIN, 0}, {transport_->listener(), POLLIN, 0}};
    for (const Newcomer& newcomer : newcomers_) fds.push_back({newcomer.process->fd(), POLLIN, 0});
    ::poll(fds.data(), fds.size(), kTickMs);
    if ((fds[0].revents & POLLIN) != 0) return MakeStatus(StatusCode::kCancelled, "told to stop");
    ForgetGone();
    KillSilent(MonotonicNow());
    Welcome();
  }
  return OkStatus();
}

void RankLink::SayWhoIsMissing(Nanos waited) {
  std::string missing;
  for (int r = 1; r < options_.tp; ++r) {
    const bool there =
        std::any_of(peers_.begin(), peers_.end(), [r](const Peer& peer) { return peer.rank == r; });
    if (!there) fmt::format_to(std::back_inserter(missing), " {}", r);
  }
  observe::LogInfo("waiting for rank{} of {} since {} s", missing, options_.tp, waited / kSecond);
}

// What it may have sent is of no use to its successor.
void RankLink::ForgetGone() {
  std::vector<pollfd> fds;
  for (const Peer& peer : peers_) fds.push_back(peer.process->End());
  if (fds.empty() || ::poll(fds.data(), fds.size(), 0) <= 0) return;
  for (size_t i = fds.size(); i-- > 0;) {
    if (fds[i].revents == 0) continue;
    observe::LogWarn("rank {} ({}) has ended before the group was complete; another may join",
                     peers_[i].rank, peers_[i].process->name());
    roll_call_.Forget(peers_[i].rank);
    peers_.erase(peers_.begin() + static_cast<ptrdiff_t>(i));
  }
}

// If this process itself did not run, the others may not have had the time to beat either.
void RankLink::KillSilent(Nanos now) {
  const bool ran = now - last_look_ < kSecond;
  last_look_ = now;
  for (Peer& peer : peers_) {
    const uint32_t beats = roll_call_.beats(peer.rank);
    if (beats != peer.beats || !ran) {
      peer.beats = beats;
      peer.beats_at = now;
    }
    if (now - peer.beats_at <= options_.silence_limit) continue;
    observe::LogError("rank {} ({}) stands still; killed", peer.rank, peer.process->name());
    peer.process->Kill();
    peer.beats_at = now;  // once
  }
}

// Takes in who connects and answers who has said what it is. Waits for nobody: whatever connects
// must not hold up those that are there.
void RankLink::Welcome() {
  pollfd listener = {transport_->listener(), POLLIN, 0};
  const Nanos now = MonotonicNow();
  while (newcomers_.size() < kMaxNewcomers && ::poll(&listener, 1, 0) > 0) {
    std::unique_ptr<RankPeer> process = transport_->Accept();
    if (process == nullptr) break;
    newcomers_.push_back({std::move(process), now});
  }
  std::erase_if(newcomers_, [&](Newcomer& newcomer) { return Hear(newcomer, now); });
}

// True: there is nothing more to wait for.
bool RankLink::Hear(Newcomer& newcomer, Nanos now) {
  RankPeer& process = *newcomer.process;
  if (!WaitReadable(process.fd(), -1, 0).ok()) return now - newcomer.since > kJoinTimeout;
  JoinMessage join;
  Status fits = process.Receive(WritableBytesOf(join), -1);
  // Whoever only looked whether somebody listens (`tandem drain` does) is gone by now.
  if (fits.code() == StatusCode::kUnavailable) return true;
  if (fits.ok()) {
    const Answer answer = CheckJoin(join);
    const bool taken = answer.refused == Answer::kFits;
    if (taken) process.Joined(join.rank);
    const bool shared = taken && transport_->shares_memory();
    const Status sent = process.Send(BytesOf(answer), shared ? memory_.fd() : -1);
    fits = taken ? sent : InvalidArgument("{}", answer.reason.str());
  }
  if (!fits.ok()) {
    observe::LogError("refused {} as a rank of group {}: {}", process.name(), options_.group,
                      Message(fits));
    return true;
  }
  observe::LogInfo("rank {} ({}) joined", join.rank, process.name());
  peers_.push_back(
      {.process = std::move(newcomer.process), .rank = join.rank, .beats_at = MonotonicNow()});
  return true;
}

Answer RankLink::CheckJoin(const JoinMessage& join) const {
  Answer answer;
  answer.refused = Answer::kMistake;
  if (join.protocol != kRankProtocol || join.build.str() != options_.build) {
    answer.reason = fmt::format("it is build {}, the leader is {}; install one build on all ranks",
                                join.build.str(), options_.build);
    return answer;
  }
  if (join.tp != options_.tp) {
    answer.reason =
        fmt::format("it was started for tp {}, the leader for tp {}; use one cluster file", join.tp,
                    options_.tp);
    return answer;
  }
  if (join.settings.str() != options_.settings) {
    answer.reason = fmt::format("it was started with {}, the leader with {}; use one cluster file",
                                join.settings.str(), options_.settings);
    return answer;
  }
  if (join.rank < 1 || join.rank >= options_.tp) {
    answer.reason = fmt::format("it says it is rank {} of {}", join.rank, options_.tp);
    return answer;
  }
  answer.refused = Answer::kFits;
  for (const Peer& peer : peers_) {
    if (peer.rank != join.rank) continue;
    answer.refused = Answer::kTaken;
    answer.reason = fmt::format("rank {} is there already ({}); stop one of the two", join.rank,
                                peer.process->name());
  }
  return answer;
}

Status RankLink::Gone(const Peer& peer) const {
  return Unavailable("rank {} ({}) ended while the group was loading", peer.rank,
                     peer.process->name());
}

StatusOr<std::vector<std::string>> RankLink::ExchangeAddresses(const std::string& own) {
  waits_for_ranks_.store(true, std::memory_order_relaxed);
  StatusOr<std::vector<std::string>> all = GatherAddresses(own);
  waits_for_ranks_.store(false, std::memory_order_relaxed);
  return all;
}

StatusOr<std::vector<std::string>> RankLink::GatherAddresses(const std::string& own) {
  TANDEM_CHECK(own.size() <= AddressMessage::kMaxBytes) << own.size() << " bytes of addresses";
  std::vector<AddressMessage> all(static_cast<size_t>(options_.tp));
  AddressMessage& mine = all[static_cast<size_t>(options_.rank)];
  mine.num_bytes = static_cast<int32_t>(own.size());
  std::memcpy(mine.bytes, own.data(), own.size());
  if (options_.rank != 0) TANDEM_RETURN_IF_ERROR(peers_[0].process->Send(BytesOf(mine)));
  for (Peer& peer : peers_) {  // of the leader all of them come, in order
    const size_t first = static_cast<size_t>(peer.rank);
    const size_t end = options_.rank == 0 ? first + 1 : all.size();
    for (size_t r = first; r < end; ++r) {
      const Status got = peer.process->Receive(WritableBytesOf(all[r]), options_.stop_fd);
      if (got.code() == StatusCode::kCancelled) return got;
      if (!got.ok()) return Gone(peer);
    }
  }
  for (size_t r = 0; options_.rank == 0 && r < all.size(); ++r) {
    for (Peer& peer : peers_) {
      if (!peer.process->Send(BytesOf(all[r])).ok()) return Gone(peer);
    }
  }
  std::vector<std::string> texts;
  for (const AddressMessage& one : all) {
    const size_t n = static_cast<size_t>(
        std::clamp<int32_t>(one.num_bytes, 0, static_cast<int32_t>(AddressMessage::kMaxBytes)));
    texts.emplace_back(one.bytes, n);
  }
  return texts;
}

StatusOr<int> RankLink::Agree(const LoadedShard& shard, const PlanLimits& limits) {
  waits_for_ranks_.store(true, std::memory_order_relaxed);
  StatusOr<int> agreed = options_.rank == 0 ? LeadAgreement(shard, limits) : ReceiveRing(shard);
  waits_for_ranks_.store(false, std::memory_order_relaxed);
  return agreed;
}

StatusOr<int> RankLink::LeadAgreement(const LoadedShard& shard, const PlanLimits& limits) {
  LoadedShard group = shard;
  if (Status status = CollectLoaded(group); !status.ok()) {
    RefuseAll(std::string(Message(status)));
    return status;
  }
  TANDEM_RETURN_IF_ERROR(SendRing(group.num_blocks, limits));
  return group.num_blocks;
}

Status RankLink::CollectLoaded(LoadedShard& group) {
  for (Peer& peer : peers_) {
    LoadedMessage loaded;
    const Status got = peer.process->Receive(WritableBytesOf(loaded), options_.stop_fd);
    if (got.code() == StatusCode::kCancelled) return got;
    if (!got.ok()) return Gone(peer);
    if (loaded.fingerprint.str() != group.fingerprint) {
      return InvalidArgument("rank {} has loaded another model ({}) than the leader ({})",
                             peer.rank, loaded.fingerprint.str(), group.fingerprint);
    }
    if (loaded.instruction_set.str() != group.instruction_set) {
      return InvalidArgument("rank {} computes with {}, the leader with {}; set instruction_set",
                             peer.rank, loaded.instruction_set.str(), group.instruction_set);
    }
    group.num_blocks = std::min(group.num_blocks, static_cast<int>(loaded.num_blocks));
  }
  return OkStatus();
}

void RankLink::RefuseAll(const std::string& line) {
  Answer answer;
  answer.refused = Answer::kMistake;
  answer.reason = line;
  for (Peer& peer : peers_) (void)peer.process->Send(BytesOf(answer));
}

Status RankLink::SendRing(int num_blocks, const PlanLimits& limits) {
  TANDEM_RETURN_IF_ERROR(MakeRing(limits));
  Answer go;
  go.num_blocks = num_blocks;
  go.limits = limits;
  const int file = transport_->shares_memory() ? ring_memory_.fd() : -1;
  for (Peer& peer : peers_) {
    if (!peer.process->Send(BytesOf(go), file).ok()) return Gone(peer);
  }
  return AttachRing();
}

StatusOr<int> RankLink::ReceiveRing(const LoadedShard& shard) {
  RankPeer& leader = *peers_.front().process;
  LoadedMessage loaded;
  loaded.num_blocks = shard.num_blocks;
  loaded.fingerprint = shard.fingerprint;
  loaded.instruction_set = shard.instruction_set;
  TANDEM_RETURN_IF_ERROR(leader.Send(BytesOf(loaded)));
  Answer answer;
  UniqueFd file;
  TANDEM_RETURN_IF_ERROR(leader.Receive(WritableBytesOf(answer), options_.stop_fd, &file));
  if (answer.refused != Answer::kFits) return InvalidArgument("{}", answer.reason.str());
  if (transport_->shares_memory()) {
    TANDEM_ASSIGN_OR_RETURN(ring_memory_, SharedRegion::Map(std::move(file)));
  } else {
    TANDEM_RETURN_IF_ERROR(MakeRing(answer.limits));
  }
  TANDEM_RETURN_IF_ERROR(AttachRing());
  return answer.num_blocks;
}

Status RankLink::MakeRing(const PlanLimits& limits) {
  TANDEM_ASSIGN_OR_RETURN(ring_memory_,
                          SharedRegion::Create(PlanRing::RequiredBytes(limits, options_.tp)));
  PlanRing::Format(ring_memory_.bytes(), limits, options_.tp);
  return OkStatus();
}

Status RankLink::AttachRing() {
  TANDEM_ASSIGN_OR_RETURN(PlanRing ring, PlanRing::Attach(ring_memory_.bytes(), options_.tp));
  ring_ = std::make_unique<PlanRing>(ring);
  transport_->Keep(ring);
  return OkStatus();
}

bool RankLink::Publish(const StepPlan& plan, Nanos limit) {
  if (!ring_->Publish(plan, limit)) return false;
  transport_->Published(plan, limit);
  return true;
}

int RankLink::PollPeers(Nanos timeout, int wake_fd) {
  // A peer is looked at for its end alone: what it sends is for the other thread.
  std::vector<pollfd> fds = {{wake_fd, POLLIN, 0}};
  for (const Peer& peer : peers_) fds.push_back(peer.process->End());
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i].gone) fds[i + 1].fd = -1;
  }
  if (options_.rank == 0) fds.push_back({transport_->listener(), POLLIN, 0});
  for (const Newcomer& newcomer : newcomers_) fds.push_back({newcomer.process->fd(), POLLIN, 0});
  const int timeout_ms = static_cast<int>(timeout / kMillisecond);
  const int events = ::poll(fds.data(), fds.size(), timeout_ms);
  if (options_.rank == 0) Welcome();
  if (events <= 0) return -1;
  bool unread = false;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i].gone || fds[i + 1].revents == 0) continue;
    unread = peers_[i].process->HasUnread();
    if (unread) continue;
    peers_[i].gone = true;
    return peers_[i].rank;
  }
  if (unread) ::poll(fds.data(), 1, timeout_ms);  // it stays so until the other thread has read
  return -1;
}

std::vector<int> RankLink::LivePeers() const {
  std::vector<int> live;
  for (const Peer& peer : peers_) {
    if (!peer.gone) live.push_back(peer.rank);
  }
  return live;
}

std::string RankLink::name_of(int rank) const {
  for (const Peer& peer : peers_) {
    if (peer.rank == rank) return peer.process->name();
  }
  return "";
}

void RankLink::Kill(int rank) {
  for (Peer& peer : peers_) {
    if (peer.rank == rank) peer.process->Kill();
  }
}

}  // namespace tandem::link
