#include "router/link/group_link.h"

#include <google/protobuf/arena.h>
#include <zmq.h>

#include <map>
#include <random>
#include <unordered_map>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "common/observe/log.h"
#include "proto/tandem.pb.h"
#include "router/link/group_session.h"

namespace tandem::link {
namespace {

constexpr int kReadsPerTurn = 256;
// Messages to one group that ZeroMQ may hold; beyond it the group counts as lost.
constexpr int kSendHighWater = 100'000;

constexpr const char* kMonitor = "inproc://closed-connections";
// After a connection was closed, until that has come through ZeroMQ, and how often all are tried.
constexpr Nanos kHurry = 250 * kMillisecond, kHurriedPing = 50 * kMillisecond;

constexpr size_t kArenaBytes = 64 << 10;  // what most messages take, decoded

constexpr size_t kMaxRefusals = 1000;  // remembered, so that each is logged once

constexpr int64_t kMaxMessageBytes = 64 << 20;  // a step report has some KB

Nonce RandomNonce() {
  std::random_device device;
  Nonce nonce = 0;
  while (nonce == 0) nonce = (uint64_t{device()} << 32) | device();
  return nonce;
}

// The I/O thread takes the process's signals, and a frame that one interrupts is not a frame that
// the socket refused.
template <class Call>
int Uninterrupted(Call call) {
  for (;;) {
    const int result = call();
    if (result >= 0 || zmq_errno() != EINTR) return result;
  }
}

std::string_view View(zmq_msg_t& message) {
  return {static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message)};
}

}  // namespace

class GroupLink::Impl {
 public:
  Impl(const GroupLinkOptions& options, routing::GroupListener& listener)
      : nonce(RandomNonce()), options_(options), listener_(listener) {}
  ~Impl();
  Status Start();
  int fd() const;
  void Turn();
  void Send(GroupId group, const routing::GenerateRequest& request);
  void Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index);

  const Nonce nonce;
  std::string endpoint;
  Stats stats;

 private:
  struct Group {
    std::string identity;
    GroupSession session;
    bool draining = false;
    int send_error = 0;  // of a message sent between two turns: the next one ends the session
  };
  using Groups = std::map<int32_t, Group>;  // by GroupId

  Group* Find(GroupId id);
  void SendBetweenTurns(Group& group, std::string_view bytes);
  void LoseUnreachable();
  bool Read();
  void Receive(const std::string& identity, std::string_view bytes);
  void Hello(const std::string& identity, const wire::Hello& hello);
  void Welcome(const std::string& identity, const wire::Hello& hello);
  void Refuse(const std::string& identity, const std::string& group, const std::string& reason);
  std::string MakePlaceFor(const std::string& identity, const wire::Hello& hello);
  void Message(Group& group, const wire::FromWorker& message);
  bool SomebodyLeft();
  void LookAround(Nanos now, bool all_read);
  void PingAll(Nanos now);
  // False: the session has ended, because the group is gone or silent; then `group` is gone.
  bool Lives(Group& group, Nanos now);
  bool LoseIfSilent(Group& group, Nanos now);

  Group* FindByIdentity(const std::string& identity);
  // False: the peer is not there, or takes nothing more.
  bool SendTo(const std::string& identity, std::string_view bytes);
  // Ends the session if that fails; then `group` is gone.
  bool SendTo(Group& group, std::string_view bytes);
  void Lose(GroupId id, const std::string& reason, bool tell_group);
  void LoseUnsendable(GroupId id, int error);
  void Reset(const std::string& identity, Nonce session);

  const GroupLinkOptions options_;
  routing::GroupListener& listener_;
  void* context_ = nullptr;
  void* socket_ = nullptr;
  void* monitor_ = nullptr;  // tells of connections that close
  Groups groups_;
  std::unordered_map<std::string, Group*> by_identity_;  // into groups_
  std::vector<GroupId> unreachable_;                     // those with a send_error
  int32_t next_group_ = 0;
  Nanos ping_due_ = 0, look_due_ = 0;
  Nanos hurry_until_ = 0;  // a connection closed: one of the groups may be gone
  std::map<std::string, std::string> refusals_;  // logged, by group: it asks again and again

  // Of the message being read, so that its parts are not allocated one by one.
  std::vector<char> arena_block_ = std::vector<char>(kArenaBytes);
  google::protobuf::Arena arena_{arena_block_.data(), arena_block_.size()};
};

Status GroupLink::Impl::Start() {
  context_ = zmq_ctx_new();
  socket_ = context_ == nullptr ? nullptr : zmq_socket(context_, ZMQ_ROUTER);
  TANDEM_CHECK(socket_ != nullptr) << "no descriptors left";
  const auto set = [&](int option, int value) {
    TANDEM_CHECK(zmq_setsockopt(socket_, option, &value, sizeof(value)) == 0)
        << "option " << option << ": " << zmq_strerror(zmq_errno());
  };
  set(ZMQ_ROUTER_MANDATORY, 1);  // an absent group is an error, not a silent loss
  set(ZMQ_ROUTER_HANDOVER, 1);   // a connection made anew replaces the one before it
  set(ZMQ_LINGER, 0);
  set(ZMQ_SNDHWM, kSendHighWater);
  zmq_setsockopt(socket_, ZMQ_MAXMSGSIZE, &kMaxMessageBytes, sizeof(kMaxMessageBytes));
  if (zmq_bind(socket_, options_.endpoint.c_str()) != 0) {
    return InvalidArgument("cannot listen for groups on {}: {}; see links.routers",
                           options_.endpoint, zmq_strerror(zmq_errno()));
  }
  monitor_ = zmq_socket(context_, ZMQ_PAIR);
  TANDEM_CHECK(monitor_ != nullptr &&
               zmq_socket_monitor(socket_, kMonitor, ZMQ_EVENT_DISCONNECTED) == 0 &&
               zmq_connect(monitor_, kMonitor) == 0)
      << zmq_strerror(zmq_errno());
  char bound[256] = {};
  size_t size = sizeof(bound);
  zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, bound, &size);
  endpoint = bound;
  return OkStatus();
}

GroupLink::Impl::~Impl() {
  // First: ZeroMQ's thread would wait for ever to tell a monitor that is gone.
  if (socket_ != nullptr) zmq_socket_monitor(socket_, nullptr, 0);
  if (monitor_ != nullptr) zmq_close(monitor_);
  if (socket_ != nullptr) zmq_close(socket_);
  if (context_ != nullptr) zmq_ctx_term(context_);
}

int GroupLink::Impl::fd() const {
  int fd = -1;
  size_t size = sizeof(fd);
  TANDEM_CHECK(zmq_getsockopt(socket_, ZMQ_FD, &fd, &size) == 0) << zmq_strerror(zmq_errno());
  return fd;
}

// The descriptor tells of what came after the last look at the socket, and sending looks too: so
// reading comes last, and what is sent between turns asks for one.
void GroupLink::Impl::Turn() {
  LoseUnreachable();
  bool all_read = Read();
  const Nanos now = MonotonicNow();
  // What is not read yet may be from the one that seems silent.
  if (now >= look_due_) LookAround(now, all_read);
  if (now >= ping_due_) {
    PingAll(now);
    all_read = all_read && Read();
  }
  if (!all_read) options_.again();
}

// Some time before the socket itself refuses to send there.
bool GroupLink::Impl::SomebodyLeft() {
  bool any = false;
  char event[8];
  while (zmq_recv(monitor_, event, sizeof(event), ZMQ_DONTWAIT) >= 0) any = true;
  return any;
}

// A message is [identity, bytes]; frames beyond are dropped. False: there may be more.
bool GroupLink::Impl::Read() {
  for (int i = 0; i < kReadsPerTurn; ++i) {
    std::string identity;
    for (int frame = 0;; ++frame) {
      zmq_msg_t message;
      zmq_msg_init(&message);
      if (Uninterrupted([&] { return zmq_msg_recv(&message, socket_, ZMQ_DONTWAIT); }) < 0) {
        zmq_msg_close(&message);
        return true;
      }
      const bool more = zmq_msg_more(&message) != 0;
      if (frame == 0) identity = View(message);
      if (frame == 1) Receive(identity, View(message));
      zmq_msg_close(&message);
      if (!more) break;
    }
  }
  return false;
}

GroupLink::Impl::Group* GroupLink::Impl::FindByIdentity(const std::string& identity) {
  const auto it = by_identity_.find(identity);
  return it == by_identity_.end() ? nullptr : it->second;
}

void GroupLink::Impl::Receive(const std::string& identity, std::string_view bytes) {
  arena_.Reset();
  auto& message = *google::protobuf::Arena::CreateMessage<wire::FromWorker>(&arena_);
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      message.body_case() == wire::FromWorker::BODY_NOT_SET) {
    ++stats.malformed;
    return;
  }
  if (message.body_case() == wire::FromWorker::kHello) {
    Hello(identity, message.hello());
    return;
  }
  Group* group = FindByIdentity(identity);
  if (group == nullptr || group->session.session() != message.session()) {
    ++stats.wrong_session;
    Reset(identity, message.session());
    return;
  }
  Message(*group, message);
}

void GroupLink::Impl::Hello(const std::string& identity, const wire::Hello& hello) {
  std::string refusal = RefusalOf(hello, options_);
  if (refusal.empty()) {
    if (Group* known = FindByIdentity(identity);
        known != nullptr && known->session.attempt() == hello.attempt()) {
      SendTo(identity, known->session.EncodeWelcome(nonce, options_.credits));  // sent twice
      return;
    }
    refusal = MakePlaceFor(identity, hello);
  }
  if (refusal.empty()) {
    Welcome(identity, hello);
  } else {
    Refuse(identity, hello.group(), refusal);
  }
}

// Ends the session that this Hello replaces. Not empty: why it replaces none, one line.
std::string GroupLink::Impl::MakePlaceFor(const std::string& identity, const wire::Hello& hello) {
  if (Group* known = FindByIdentity(identity)) {
    Lose(known->session.id(), "the group began its session anew", /*tell_group=*/true);
  }
  const Nanos now = MonotonicNow();
  for (auto it = groups_.begin(); it != groups_.end();) {
    Group& group = (it++)->second;
    if (group.session.info().name != hello.group()) continue;
    const Nonce incarnation = group.session.info().incarnation;
    // A leader that died may have left a session that the next ping would have ended.
    if (!Lives(group, now)) continue;
    if (incarnation == hello.incarnation()) {
      return fmt::format(
          "group {} dials this router twice; name it in links.routers by one endpoint only",
          hello.group());
    }
    return fmt::format(
        "another group {} is connected and lives; stop one of the two, or give it another name",
        hello.group());
  }
  return "";
}

void GroupLink::Impl::Refuse(const std::string& identity, const std::string& group,
                             const std::string& reason) {
  ++stats.hellos_refused;
  if (refusals_.size() >= kMaxRefusals) refusals_.clear();
  std::string& logged = refusals_[group];
  if (logged != reason) observe::LogError("refused: {}", reason);
  logged = reason;
  wire::FromRouter answer;
  answer.mutable_refuse()->set_reason(reason);
  SendTo(identity, answer.SerializeAsString());
}

void GroupLink::Impl::Welcome(const std::string& identity, const wire::Hello& hello) {
  const GroupId id{next_group_++};
  GroupSession session(id, hello, RandomNonce(), stats, MonotonicNow());
  if (!SendTo(identity, session.EncodeWelcome(nonce, options_.credits))) return;
  Group& group = groups_.emplace(id.value, Group{identity, std::move(session)}).first->second;
  by_identity_[identity] = &group;
  ++stats.sessions_opened;
  refusals_.erase(hello.group());
  observe::LogInfo("group {} is up: {}, tp {}, {} blocks", hello.group(), hello.device_class(),
                   hello.tp(), hello.num_blocks());
  listener_.OnGroupUp(group.session.info());
  std::vector<std::string> answers;
  group.session.AskForSnapshot(answers);
  for (const std::string& answer : answers) {
    if (!SendTo(group, answer)) return;
  }
}

void GroupLink::Impl::Message(Group& group, const wire::FromWorker& message) {
  const GroupId id = group.session.id();
  const Nanos now = MonotonicNow();
  if (Status status = group.session.CheckNumber(message.number(), now); !status.ok()) {
    Lose(id, std::string(tandem::Message(status)), /*tell_group=*/true);
    return;
  }
  routing::StepReport report;
  std::vector<std::string> answers;
  StatusOr<bool> deliver = false;
  switch (message.body_case()) {
    case wire::FromWorker::kStep: {
      Status status = group.session.Take(message.step(), now, report, answers);
      deliver = status.ok() ? StatusOr<bool>(true) : StatusOr<bool>(status);
      break;
    }
    case wire::FromWorker::kSnapshot:
      deliver = group.session.Take(message.snapshot(), now, report, answers);
      break;
    case wire::FromWorker::kDraining:
      group.draining = true;
      listener_.OnGroupDraining(id);
      break;
    case wire::FromWorker::kGoodbye:
      SendTo(group.identity, group.session.EncodeAck());  // the group closes its socket
      Lose(id, message.goodbye().reason(), /*tell_group=*/false);
      return;
    default:
      break;
  }
  if (!deliver.ok()) {
    Lose(id, std::string(tandem::Message(deliver.status())), /*tell_group=*/true);
    return;
  }
  if (*deliver) listener_.OnStep(std::move(report));
  if (group.session.ack_due(options_.credits)) answers.push_back(group.session.EncodeAck());
  for (const std::string& answer : answers) {
    if (!SendTo(group, answer)) return;
  }
}

GroupLink::Impl::Group* GroupLink::Impl::Find(GroupId id) {
  const auto it = groups_.find(id.value);
  return it == groups_.end() ? nullptr : &it->second;
}

void GroupLink::Impl::Send(GroupId id, const routing::GenerateRequest& request) {
  Group* const group = Find(id);
  if (group == nullptr) return;  // OnGroupLost has told
  SendBetweenTurns(*group, group->session.EncodeGenerate(request));
}

void GroupLink::Impl::Cancel(GroupId id, RequestId request, uint32_t attempt, uint32_t index) {
  Group* const group = Find(id);
  if (group == nullptr) return;
  const std::string bytes = group->session.EncodeCancel(request, attempt, index);
  if (!bytes.empty()) SendBetweenTurns(*group, bytes);
}

// Whoever sends is in the middle of something: of a session that ended it hears in the next turn.
void GroupLink::Impl::SendBetweenTurns(Group& group, std::string_view bytes) {
  if (group.send_error != 0) return;
  if (!SendTo(group.identity, bytes)) {
    group.send_error = zmq_errno();
    unreachable_.push_back(group.session.id());
  }
  options_.again();
}

void GroupLink::Impl::LoseUnreachable() {
  for (const GroupId id : std::exchange(unreachable_, {})) {
    const Group* const group = Find(id);
    if (group != nullptr) LoseUnsendable(id, group->send_error);
  }
}

void GroupLink::Impl::LoseUnsendable(GroupId id, int error) {
  const bool gone = error == EHOSTUNREACH;
  Lose(id, gone ? "its leader's connection is closed" : "its leader reads nothing", !gone);
}

// A group whose messages wait to be read is not silent.
void GroupLink::Impl::LookAround(Nanos now, bool all_read) {
  look_due_ = now + kTurnInterval;
  for (auto it = groups_.begin(); all_read && it != groups_.end();) {
    LoseIfSilent((it++)->second, now);
  }
  if (!SomebodyLeft()) return;
  hurry_until_ = now + kHurry;
  ping_due_ = now;
}

void GroupLink::Impl::PingAll(Nanos now) {
  ping_due_ = now + (now < hurry_until_ ? kHurriedPing : options_.ping_interval);
  for (auto it = groups_.begin(); it != groups_.end();) {
    Group& group = (it++)->second;
    SendTo(group, group.session.EncodeAck());
  }
}

bool GroupLink::Impl::Lives(Group& group, Nanos now) {
  return !LoseIfSilent(group, now) && SendTo(group, group.session.EncodeAck());
}

bool GroupLink::Impl::LoseIfSilent(Group& group, Nanos now) {
  if (now <= group.session.silent_at(options_.silence_slack)) return false;
  const Nanos silent = now - group.session.last_report();
  Lose(group.session.id(), fmt::format("no step was reported for {} ms", silent / kMillisecond),
       /*tell_group=*/true);
  return true;
}

bool GroupLink::Impl::SendTo(const std::string& identity, std::string_view bytes) {
  const auto send = [this](std::string_view frame, int flags) {
    return Uninterrupted(
        [&] { return zmq_send(socket_, frame.data(), frame.size(), ZMQ_DONTWAIT | flags); });
  };
  if (send(identity, ZMQ_SNDMORE) < 0) {
    return false;
  }
  return send(bytes, 0) >= 0;
}

bool GroupLink::Impl::SendTo(Group& group, std::string_view bytes) {
  if (SendTo(group.identity, bytes)) return true;
  LoseUnsendable(group.session.id(), zmq_errno());
  return false;
}

void GroupLink::Impl::Lose(GroupId id, const std::string& reason, bool tell_group) {
  const auto node = groups_.extract(id.value);
  const Group& group = node.mapped();
  by_identity_.erase(group.identity);
  ++stats.sessions_lost;
  if (group.draining) {
    observe::LogInfo("group {} has left: {}", group.session.info().name, reason);
  } else {
    observe::LogWarn("group {} is lost: {}", group.session.info().name, reason);
  }
  if (tell_group) Reset(group.identity, group.session.session());
  listener_.OnGroupLost(id, reason);
}

void GroupLink::Impl::Reset(const std::string& identity, Nonce session) {
  wire::FromRouter message;
  message.set_session(session);
  message.mutable_reset();
  SendTo(identity, message.SerializeAsString());
}

StatusOr<std::unique_ptr<GroupLink>> GroupLink::Open(const GroupLinkOptions& options,
                                                     routing::GroupListener& listener) {
  TANDEM_CHECK(options.again != nullptr) << "a link asks for turns";
  std::unique_ptr<GroupLink> link(new GroupLink);
  link->impl_ = std::make_unique<Impl>(options, listener);
  TANDEM_RETURN_IF_ERROR(link->impl_->Start());
  return link;
}

GroupLink::~GroupLink() = default;

int GroupLink::fd() const { return impl_->fd(); }
void GroupLink::Turn() { impl_->Turn(); }

void GroupLink::Send(GroupId group, routing::GenerateRequest request) {
  impl_->Send(group, request);
}

void GroupLink::Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index) {
  impl_->Cancel(group, request, attempt, index);
}

const std::string& GroupLink::endpoint() const { return impl_->endpoint; }
Nonce GroupLink::nonce() const { return impl_->nonce; }
const GroupLink::Stats& GroupLink::stats() const { return impl_->stats; }

}  // namespace tandem::link
