#include "worker/link/rank_link.h"

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/check.h"
#include "common/clock.h"
#include "common/observe/log.h"
#include "worker/link/seq_packet.h"

namespace tandem::link {
namespace {

constexpr int kJoinTimeoutMs = 1000;  // of a process that has connected, to say who it is
constexpr int kRetryMs = 50;          // between looks for a leader that is not there yet
constexpr int kTickMs = 50;           // between two beats
constexpr size_t kPage = 4096;

Status Failed(const std::string& what, const std::string& path) {
  return InvalidArgument("{} {}: {}; see links.runtime_dir", what, path, std::strerror(errno));
}

StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return InvalidArgument(
        "socket path {} has {} bytes, {} are possible; shorten "
        "links.runtime_dir",
        path, path.size(), sizeof(address.sun_path) - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Of a socket that poll() called closed: what was sent before is still there to be read.
bool HasUnread(int socket) {
  char byte;
  return ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

size_t CommOffset(int tp) { return (RollCall::RequiredBytes(tp) + kPage - 1) / kPage * kPage; }

int OpenPidfd(int pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

}  // namespace

StatusOr<std::unique_ptr<RankLink>> RankLink::Open(const RankLinkOptions& options) {
  TANDEM_CHECK(options.rank >= 0 && options.rank < options.tp)
      << "rank " << options.rank << " of " << options.tp;
  std::unique_ptr<RankLink> self(new RankLink(options));
  self->socket_path_ = options.runtime_dir + "/" + options.group + ".sock";
  if (options.rank == 0) {
    TANDEM_RETURN_IF_ERROR(self->Listen());
    const size_t bytes = CommOffset(options.tp) + options.comm_bytes;
    TANDEM_ASSIGN_OR_RETURN(SharedRegion memory, SharedRegion::Create(bytes));
    self->MapMemory(std::move(memory));
  } else {
    TANDEM_RETURN_IF_ERROR(self->Connect());
    TANDEM_RETURN_IF_ERROR(self->JoinLeader());
  }
  return self;
}

void RankLink::MapMemory(SharedRegion memory) {
  memory_ = std::move(memory);
  comm_offset_ = CommOffset(options_.tp);
  roll_call_ = RollCall(memory_.bytes());
  roll_call_.Beat(options_.rank);
}

RankLink::~RankLink() {
  if (listener_.valid()) ::unlink(socket_path_.c_str());
}

// The folder may lie in /tmp: refuse one that somebody else has put there.
Status RankLink::PrepareFolder() {
  const std::string& dir = options_.runtime_dir;
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return Failed("cannot make folder", dir);
  struct stat status {};
  if (::lstat(dir.c_str(), &status) != 0) return Failed("cannot look at", dir);
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 022) != 0) {
    return InvalidArgument(
        "{} must be a folder of this user that only he can write; see "
        "links.runtime_dir",
        dir);
  }
  return OkStatus();
}

// Who holds the lock owns the group's name on this machine, so a socket file that is already there
// is a dead leader's.
Status RankLink::Listen() {
  TANDEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(socket_path_));
  TANDEM_RETURN_IF_ERROR(PrepareFolder());
  const std::string lock_path = options_.runtime_dir + "/" + options_.group + ".lock";
  lock_ = UniqueFd(::open(lock_path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock_.valid()) return Failed("cannot open", lock_path);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return InvalidArgument(
        "group {} has a leader on this machine already ({} is locked); stop it, "
        "or use another links.runtime_dir",
        options_.group, lock_path);
  }
  ::unlink(socket_path_.c_str());
  listener_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!listener_.valid() ||
      ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener_.get(), 64) != 0) {
    return Failed("cannot listen on", socket_path_);
  }
  return OkStatus();
}

Status RankLink::Connect() {
  TANDEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(socket_path_));
  bool told = false;
  for (;;) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return Failed("cannot make a socket for", socket_path_);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
        0) {
      Peer leader;
      leader.rank = 0;
      leader.socket = std::move(socket);
      peers_.push_back(std::move(leader));
      return OkStatus();
    }
    if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN && errno != EINTR) {
      return Failed("cannot connect to", socket_path_);
    }
    if (!told) observe::LogInfo("looking for the leader at {}", socket_path_);
    told = true;
    const Status waited = WaitReadable(-1, options_.stop_fd, kRetryMs);
    if (waited.code() == StatusCode::kCancelled) return waited;
  }
}

Status RankLink::JoinLeader() {
  Peer& leader = peers_.front();
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  ::getsockopt(leader.socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
  leader.pid = credentials.pid;
  leader.pidfd = UniqueFd(OpenPidfd(leader.pid));
  JoinMessage join;
  join.rank = options_.rank;
  join.tp = options_.tp;
  join.build = options_.build;
  join.settings = options_.settings;
  TANDEM_RETURN_IF_ERROR(SendPacket(leader.socket.get(), &join, sizeof(join)));
  const Status answered = WaitReadable(leader.socket.get(), options_.stop_fd,
                                       static_cast<int>(options_.answer_limit / kMillisecond));
  if (answered.code() == StatusCode::kUnavailable) {
    return Unavailable("the leader of group {} (process {}) does not answer; is it stopped?",
                       options_.group, leader.pid);
  }
  TANDEM_RETURN_IF_ERROR(answered);
  Answer answer;
  UniqueFd memory;
  TANDEM_RETURN_IF_ERROR(
      ReceivePacket(leader.socket.get(), &answer, sizeof(answer), options_.stop_fd, &memory));
  if (answer.refused == Answer::kTaken) {
    return Unavailable("refused by the leader: {}", answer.reason.str());
  }
  if (answer.refused != Answer::kFits) {
    return InvalidArgument("refused by the leader: {}", answer.reason.str());
  }
  TANDEM_ASSIGN_OR_RETURN(SharedRegion mapped, SharedRegion::Map(std::move(memory)));
  if (mapped.bytes().size() <= CommOffset(options_.tp)) {
    return Internal("the leader's memory has {} bytes", mapped.bytes().size());
  }
  MapMemory(std::move(mapped));
  return OkStatus();
}

RankLink::Peer* RankLink::FindPeer(int rank) {
  for (Peer& peer : peers_) {
    if (peer.rank == rank) return &peer;
  }
  return nullptr;
}

Status RankLink::WaitForRanks() {
  if (options_.rank != 0) return OkStatus();
  while (static_cast<int>(peers_.size()) < options_.tp - 1) {
    roll_call_.Beat(0);
    const Status waited = WaitReadable(listener_.get(), options_.stop_fd, kTickMs);
    if (waited.code() == StatusCode::kCancelled) return waited;
    ForgetGone();
    KillSilent(MonotonicNow());
    if (waited.ok()) TANDEM_RETURN_IF_ERROR(AcceptOne());
  }
  return OkStatus();
}

// What it may have sent is of no use to its successor.
void RankLink::ForgetGone() {
  std::vector<pollfd> fds;
  for (const Peer& peer : peers_) fds.push_back({peer.socket.get(), 0, 0});
  if (fds.empty() || ::poll(fds.data(), fds.size(), 0) <= 0) return;
  for (size_t i = fds.size(); i-- > 0;) {
    if (fds[i].revents == 0) continue;
    observe::LogWarn(
        "rank {} (process {}) has ended before the group was complete; another may join",
        peers_[i].rank, peers_[i].pid);
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
    observe::LogError("rank {} (process {}) stands still; killed", peer.rank, peer.pid);
    Kill(peer.rank);
    peer.beats_at = now;  // once
  }
}

RankLink::Peer RankLink::Accept() {
  Peer peer;
  peer.socket = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer.socket.valid()) return peer;
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  ::getsockopt(peer.socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
  peer.pid = credentials.pid;
  return peer;
}

// Not OK only if this process was told to stop; what is wrong with one that connects is its own
// affair.
Status RankLink::AcceptOne() {
  Peer peer = Accept();
  if (!peer.socket.valid()) return OkStatus();
  peer.pidfd = UniqueFd(OpenPidfd(peer.pid));
  const Status spoke = WaitReadable(peer.socket.get(), options_.stop_fd, kJoinTimeoutMs);
  if (spoke.code() == StatusCode::kCancelled) return spoke;
  JoinMessage join;
  Status fits = spoke.ok() ? ReceivePacket(peer.socket.get(), &join, sizeof(join), -1) : spoke;
  if (fits.ok()) {
    const Answer answer = CheckJoin(join);
    const bool taken = answer.refused == Answer::kFits;
    const Status sent =
        SendPacket(peer.socket.get(), &answer, sizeof(answer), taken ? memory_.fd() : -1);
    fits = taken ? sent : InvalidArgument("{}", answer.reason.str());
  }
  if (!fits.ok()) {
    observe::LogError("refused process {} as a rank of group {}: {}", peer.pid, options_.group,
                      Message(fits));
    return OkStatus();
  }
  peer.rank = join.rank;
  peer.beats_at = MonotonicNow();
  observe::LogInfo("rank {} (process {}) joined", peer.rank, peer.pid);
  peers_.push_back(std::move(peer));
  return OkStatus();
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
    answer.reason = fmt::format("rank {} is there already (process {}); stop one of the two",
                                join.rank, peer.pid);
  }
  return answer;
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
    const Status got = ReceivePacket(peer.socket.get(), &loaded, sizeof(loaded), options_.stop_fd);
    if (got.code() == StatusCode::kCancelled) return got;
    if (!got.ok()) {
      return Unavailable("rank {} (process {}) ended while the group was loading", peer.rank,
                         peer.pid);
    }
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
  answer.refused = 1;
  answer.reason = line;
  for (Peer& peer : peers_) (void)SendPacket(peer.socket.get(), &answer, sizeof(answer));
}

Status RankLink::SendRing(int num_blocks, const PlanLimits& limits) {
  TANDEM_ASSIGN_OR_RETURN(ring_memory_,
                          SharedRegion::Create(PlanRing::RequiredBytes(limits, options_.tp)));
  PlanRing::Format(ring_memory_.bytes(), limits, options_.tp);
  Answer go;
  go.num_blocks = num_blocks;
  for (Peer& peer : peers_) {
    if (!SendPacket(peer.socket.get(), &go, sizeof(go), ring_memory_.fd()).ok()) {
      return Unavailable("rank {} (process {}) ended while the group was loading", peer.rank,
                         peer.pid);
    }
  }
  return AttachRing();
}

StatusOr<int> RankLink::ReceiveRing(const LoadedShard& shard) {
  const int leader = peers_.front().socket.get();
  LoadedMessage loaded;
  loaded.num_blocks = shard.num_blocks;
  loaded.fingerprint = shard.fingerprint;
  loaded.instruction_set = shard.instruction_set;
  TANDEM_RETURN_IF_ERROR(SendPacket(leader, &loaded, sizeof(loaded)));
  Answer answer;
  UniqueFd memory;
  TANDEM_RETURN_IF_ERROR(ReceivePacket(leader, &answer, sizeof(answer), options_.stop_fd, &memory));
  if (answer.refused != 0) return InvalidArgument("{}", answer.reason.str());
  TANDEM_ASSIGN_OR_RETURN(ring_memory_, SharedRegion::Map(std::move(memory)));
  TANDEM_RETURN_IF_ERROR(AttachRing());
  return answer.num_blocks;
}

Status RankLink::AttachRing() {
  TANDEM_ASSIGN_OR_RETURN(PlanRing ring, PlanRing::Attach(ring_memory_.bytes(), options_.tp));
  ring_ = std::make_unique<PlanRing>(ring);
  return OkStatus();
}

int RankLink::PollPeers(Nanos timeout, int wake_fd) {
  // A peer is looked at for its end alone: what it sends is for Agree.
  std::vector<pollfd> fds = {{wake_fd, POLLIN, 0}, {listener_.get(), POLLIN, 0}};
  for (const Peer& peer : peers_) fds.push_back({peer.gone ? -1 : peer.socket.get(), 0, 0});
  for (const Peer& peer : late_) fds.push_back({peer.socket.get(), POLLIN, 0});
  const int timeout_ms = static_cast<int>(timeout / kMillisecond);
  if (::poll(fds.data(), fds.size(), timeout_ms) <= 0) return -1;
  if (fds[1].revents != 0) late_.push_back(Accept());
  AnswerLate();
  bool unread = false;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (fds[i + 2].revents == 0) continue;
    unread = HasUnread(peers_[i].socket.get());
    if (unread) continue;
    peers_[i].gone = true;
    return peers_[i].rank;
  }
  if (unread) ::poll(fds.data(), 1, timeout_ms);  // it stays so until Agree has read
  return -1;
}

// Whoever connects now is one too many, or came while the rank before it was dying.
void RankLink::AnswerLate() {
  std::erase_if(late_, [this](const Peer& peer) {
    JoinMessage join;
    if (peer.socket.valid() && !WaitReadable(peer.socket.get(), -1, 0).ok()) return false;
    if (!peer.socket.valid() || !ReceivePacket(peer.socket.get(), &join, sizeof(join), -1).ok()) {
      return true;
    }
    Answer answer = CheckJoin(join);
    (void)SendPacket(peer.socket.get(), &answer, sizeof(answer));
    observe::LogError("refused process {} as a rank of group {}: {}", peer.pid, options_.group,
                      answer.reason.str());
    return true;
  });
}

std::vector<int> RankLink::LivePeers() const {
  std::vector<int> live;
  for (const Peer& peer : peers_) {
    if (!peer.gone) live.push_back(peer.rank);
  }
  return live;
}

int RankLink::pid_of(int rank) const {
  for (const Peer& peer : peers_) {
    if (peer.rank == rank) return peer.pid;
  }
  return -1;
}

void RankLink::Kill(int rank) {
  Peer* peer = FindPeer(rank);
  if (peer == nullptr || !peer->pidfd.valid()) return;
  ::syscall(SYS_pidfd_send_signal, peer->pidfd.get(), SIGKILL, nullptr, 0);
}

}  // namespace tandem::link
