#include "router/link/group_link.h"

#include <google/protobuf/arena.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>
#include <unordered_map>
#include <variant>

#include "common/check.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/observe/log.h"
#include "proto/tandem.pb.h"
#include "router/link/group_session.h"

namespace tandem::link {
namespace {

constexpr int kReadsPerTurn = 256;
// Messages to one group that ZeroMQ may hold; beyond it the group counts as lost.
constexpr int kSendHighWater = 100'000;

constexpr size_t kArenaBytes = 64 << 10;  // what most messages take, decoded

constexpr size_t kMaxRefusals = 1000;  // remembered, so that each is logged once

constexpr int64_t kMaxMessageBytes = 64 << 20;  // a step report has some KB

Nonce RandomNonce() {
  std::random_device device;
  Nonce nonce = 0;
  while (nonce == 0) nonce = (uint64_t{device()} << 32) | device();
  return nonce;
}

std::string_view View(zmq_msg_t& message) {
  return {static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message)};
}

}  // namespace

class GroupLink::Loop {
 public:
  Loop(const GroupLinkOptions& options, routing::GroupListener& listener)
      : nonce(RandomNonce()), options_(options), listener_(listener) {}
  ~Loop();
  Status Start();

  struct CancelCommand {
    RequestId request;
    uint32_t attempt, index;
  };
  struct Command {
    GroupId group;
    std::variant<routing::GenerateRequest, CancelCommand> what;
  };
  void Post(Command&& command);

  const Nonce nonce;
  std::string endpoint;
  Stats stats;

 private:
  struct Group {
    std::string identity;
    GroupSession session;
    bool draining = false;
  };
  using Groups = std::map<int32_t, Group>;  // by GroupId

  void Wake();
  void Run();
  void WaitForWork();
  void Read();
  void Receive(const std::string& identity, std::string_view bytes);
  void Hello(const std::string& identity, const wire::Hello& hello);
  void Welcome(const std::string& identity, const wire::Hello& hello);
  void Refuse(const std::string& identity, const std::string& group, const std::string& reason);
  std::string MakePlaceFor(const std::string& identity, const wire::Hello& hello);
  void Message(Group& group, const wire::FromWorker& message);
  void Execute(std::vector<Command>& commands);
  void PingAll(Nanos now);
  // False: the session has ended, because the group is gone or silent; then `group` is gone.
  bool Ping(Group& group, Nanos now);

  Group* FindByIdentity(const std::string& identity);
  // False: the peer is not there, or takes nothing more.
  bool SendTo(const std::string& identity, std::string_view bytes);
  // Ends the session if that fails; then `group` is gone.
  bool SendTo(Group& group, std::string_view bytes);
  void Lose(GroupId id, const std::string& reason, bool tell_group);
  void Reset(const std::string& identity, Nonce session);

  const GroupLinkOptions options_;
  routing::GroupListener& listener_;
  void* context_ = nullptr;
  void* socket_ = nullptr;
  int wake_ = -1;
  Groups groups_;
  std::unordered_map<std::string, Group*> by_identity_;  // into groups_
  int32_t next_group_ = 0;
  Nanos ping_due_ = 0;
  std::map<std::string, std::string> refusals_;  // logged, by group: it asks again and again

  // Of the message being read, so that its parts are not allocated one by one.
  std::vector<char> arena_block_ = std::vector<char>(kArenaBytes);
  google::protobuf::Arena arena_{arena_block_.data(), arena_block_.size()};

  Mutex mutex_;
  std::vector<Command> commands_ TANDEM_GUARDED_BY(mutex_);
  bool stop_ TANDEM_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

Status GroupLink::Loop::Start() {
  wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  context_ = zmq_ctx_new();
  socket_ = context_ == nullptr ? nullptr : zmq_socket(context_, ZMQ_ROUTER);
  TANDEM_CHECK(wake_ >= 0 && socket_ != nullptr) << "no descriptors left";
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
  char bound[256] = {};
  size_t size = sizeof(bound);
  zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, bound, &size);
  endpoint = bound;
  thread_ = std::thread([this] { Run(); });
  return OkStatus();
}

GroupLink::Loop::~Loop() {
  if (thread_.joinable()) {
    {
      MutexLock lock(mutex_);
      stop_ = true;
    }
    Wake();
    thread_.join();
  }
  if (socket_ != nullptr) zmq_close(socket_);
  if (context_ != nullptr) zmq_ctx_term(context_);
  if (wake_ >= 0) ::close(wake_);
}

void GroupLink::Loop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_, &one, sizeof(one));
}

void GroupLink::Loop::Post(Command&& command) {
  {
    MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
    if (commands_.size() > 1) return;  // woken already
  }
  Wake();
}

void GroupLink::Loop::Run() {
  std::vector<Command> commands;
  for (;;) {
    WaitForWork();
    {
      MutexLock lock(mutex_);
      if (stop_) return;
      commands.swap(commands_);
    }
    Execute(commands);
    commands.clear();
    Read();
    const Nanos now = MonotonicNow();
    if (now >= ping_due_) PingAll(now);
  }
}

void GroupLink::Loop::WaitForWork() {
  zmq_pollitem_t items[2] = {{nullptr, wake_, ZMQ_POLLIN, 0}, {socket_, 0, ZMQ_POLLIN, 0}};
  const Nanos wait = std::clamp<Nanos>(ping_due_ - MonotonicNow(), 0, options_.ping_interval);
  zmq_poll(items, 2, static_cast<long>((wait + kMillisecond - 1) / kMillisecond));
  if (items[0].revents == 0) return;
  uint64_t count;
  [[maybe_unused]] const ssize_t n = ::read(wake_, &count, sizeof(count));
}

// A message is [identity, bytes]; frames beyond are dropped.
void GroupLink::Loop::Read() {
  for (int i = 0; i < kReadsPerTurn; ++i) {
    std::string identity;
    for (int frame = 0;; ++frame) {
      zmq_msg_t message;
      zmq_msg_init(&message);
      if (zmq_msg_recv(&message, socket_, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&message);
        return;
      }
      const bool more = zmq_msg_more(&message) != 0;
      if (frame == 0) identity = View(message);
      if (frame == 1) Receive(identity, View(message));
      zmq_msg_close(&message);
      if (!more) break;
    }
  }
  Wake();  // there may be more
}

GroupLink::Loop::Group* GroupLink::Loop::FindByIdentity(const std::string& identity) {
  const auto it = by_identity_.find(identity);
  return it == by_identity_.end() ? nullptr : it->second;
}

void GroupLink::Loop::Receive(const std::string& identity, std::string_view bytes) {
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

void GroupLink::Loop::Hello(const std::string& identity, const wire::Hello& hello) {
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
std::string GroupLink::Loop::MakePlaceFor(const std::string& identity, const wire::Hello& hello) {
  if (Group* known = FindByIdentity(identity)) {
    Lose(known->session.id(), "the group began its session anew", /*tell_group=*/true);
  }
  const Nanos now = MonotonicNow();
  for (auto it = groups_.begin(); it != groups_.end();) {
    Group& group = (it++)->second;
    if (group.session.info().name != hello.group()) continue;
    const Nonce incarnation = group.session.info().incarnation;
    // A leader that died may have left a session that the next ping would have ended.
    if (!Ping(group, now)) continue;
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

void GroupLink::Loop::Refuse(const std::string& identity, const std::string& group,
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

void GroupLink::Loop::Welcome(const std::string& identity, const wire::Hello& hello) {
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

void GroupLink::Loop::Message(Group& group, const wire::FromWorker& message) {
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

void GroupLink::Loop::Execute(std::vector<Command>& commands) {
  for (const Command& command : commands) {
    const auto it = groups_.find(command.group.value);
    if (it == groups_.end()) continue;  // OnGroupLost has told
    Group& group = it->second;
    if (const auto* request = std::get_if<routing::GenerateRequest>(&command.what)) {
      SendTo(group, group.session.EncodeGenerate(*request));
      continue;
    }
    const auto& cancel = std::get<CancelCommand>(command.what);
    const std::string bytes =
        group.session.EncodeCancel(cancel.request, cancel.attempt, cancel.index);
    if (!bytes.empty()) SendTo(group, bytes);
  }
}

void GroupLink::Loop::PingAll(Nanos now) {
  ping_due_ = now + options_.ping_interval;
  for (auto it = groups_.begin(); it != groups_.end();) Ping((it++)->second, now);
}

bool GroupLink::Loop::Ping(Group& group, Nanos now) {
  if (now <= group.session.silent_at(options_.silence_slack)) {
    return SendTo(group, group.session.EncodeAck());
  }
  const Nanos silent = now - group.session.last_report();
  Lose(group.session.id(), fmt::format("no step was reported for {} ms", silent / kMillisecond),
       /*tell_group=*/true);
  return false;
}

bool GroupLink::Loop::SendTo(const std::string& identity, std::string_view bytes) {
  if (zmq_send(socket_, identity.data(), identity.size(), ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
    return false;
  }
  return zmq_send(socket_, bytes.data(), bytes.size(), ZMQ_DONTWAIT) >= 0;
}

bool GroupLink::Loop::SendTo(Group& group, std::string_view bytes) {
  if (SendTo(group.identity, bytes)) return true;
  const bool gone = zmq_errno() == EHOSTUNREACH;
  Lose(group.session.id(), gone ? "its leader's connection is closed" : "its leader reads nothing",
       !gone);
  return false;
}

void GroupLink::Loop::Lose(GroupId id, const std::string& reason, bool tell_group) {
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

void GroupLink::Loop::Reset(const std::string& identity, Nonce session) {
  wire::FromRouter message;
  message.set_session(session);
  message.mutable_reset();
  SendTo(identity, message.SerializeAsString());
}

StatusOr<std::unique_ptr<GroupLink>> GroupLink::Open(const GroupLinkOptions& options,
                                                     routing::GroupListener& listener) {
  std::unique_ptr<GroupLink> link(new GroupLink);
  link->loop_ = std::make_unique<Loop>(options, listener);
  TANDEM_RETURN_IF_ERROR(link->loop_->Start());
  return link;
}

GroupLink::~GroupLink() = default;

void GroupLink::Send(GroupId group, routing::GenerateRequest request) {
  loop_->Post({group, std::move(request)});
}

void GroupLink::Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index) {
  loop_->Post({group, Loop::CancelCommand{request, attempt, index}});
}

const std::string& GroupLink::endpoint() const { return loop_->endpoint; }
Nonce GroupLink::nonce() const { return loop_->nonce; }
const GroupLink::Stats& GroupLink::stats() const { return loop_->stats; }

}  // namespace tandem::link
