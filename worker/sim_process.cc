#include "worker/sim_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "common/check.h"
#include "common/clock.h"
#include "common/config/device_profile.h"
#include "common/observe/log.h"
#include "worker/build_id.h"
#include "worker/leader.h"
#include "worker/link/link_thread.h"
#include "worker/link/rank_link.h"
#include "worker/link/router_link.h"
#include "worker/sim/sim_model.h"
#include "worker/sim/sim_ranks.h"
#include "worker/worker_process.h"

namespace tandem::worker {
namespace {

constexpr Nanos kGoodbyeFlush = 200 * kMillisecond;
constexpr Nanos kMaxSleep = kSecond;

link::UniqueFd BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return link::UniqueFd(::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
}

// Two or three descriptors for each group and router.
void AllowManyFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Nonce RandomNonce() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) | 1;
}

engine::EngineOptions EngineOptionsFor(const config::Cluster& cluster, const config::Group& group,
                                       const DeviceProfile& profile, const sim::SimModel& model) {
  engine::EngineOptions options;
  options.num_blocks = static_cast<int>(profile.kv_tokens / group.block_size);
  options.block_size = group.block_size;
  // No position is ever computed, so a longer context than the model was trained for is fine.
  const int max_context = cluster.ModelOf(group).max_context;
  options.max_context = max_context > 0 ? max_context : model.max_context;
  options.vocab_size = model.vocab_size;
  options.max_seqs = group.max_seqs;
  options.max_step_tokens = group.max_step_tokens;
  options.max_step_time = group.max_step_time;
  options.embeddings = false;
  options.hash_seed = model.fingerprint;
  return options;
}

link::GroupDescription Describe(const config::Group& group, const DeviceProfile& profile,
                                const engine::EngineOptions& engine) {
  link::GroupDescription self;
  self.build = BuildId();
  self.group = group.name;
  self.model = group.model;
  self.fingerprint = engine.hash_seed;
  self.hash_seed = engine.hash_seed;
  self.dtype = "simulated";
  self.device_class = "sim/" + profile.name;
  self.incarnation = RandomNonce();
  self.block_size = group.block_size;
  self.tp = profile.ranks;
  self.max_context = engine::Engine::ContextOf(engine);
  self.max_seqs = group.max_seqs;
  self.max_step_tokens = group.max_step_tokens;
  self.num_blocks = engine.num_blocks;
  self.watchdog = group.min_watchdog;
  return self;
}

// One group. Engine thread, but for what says otherwise.
class SimGroup {
 public:
  SimGroup(const LeaderOptions& options, const DeviceProfile& profile,
           const sim::SimSampler& sampler, link::Bell& bell)
      : bell_(bell),
        ranks_(profile, engine::Engine::LimitsOf(options.engine), sampler, &MonotonicNow),
        leader_(options, ranks_, bell) {}

  // Main thread, before the engine thread.
  Status Open(link::RouterLinkOptions options) {
    options.on_inbound = [this] {  // link's thread
      rung_.store(true, std::memory_order_release);
      bell_.Ring();
    };
    TANDEM_ASSIGN_OR_RETURN(routers_, link::RouterLink::Open(options));
    return OkStatus();
  }

  // Any thread.
  void StartDraining() {
    rung_.store(true, std::memory_order_release);
    leader_.StartDraining();
  }

  bool ended() const { return ended_; }
  Nanos due() const { return due_; }

  void TurnIfDue(Nanos now) {
    const bool rung = rung_.load(std::memory_order_relaxed) && rung_.exchange(false);
    if (!rung && now < due_) return;
    if (leader_.Turn(*routers_)) {
      ended_ = true;
      routers_->StartGoodbye("the group was told to stop", kGoodbyeFlush);
      return;
    }
    due_ = ranks_.busy() ? ranks_.due() : now + leader_.SleepTime(now);
  }

 private:
  link::Bell& bell_;
  sim::SimRanks ranks_;
  Leader leader_;
  std::atomic<bool> rung_{false};
  Nanos due_ = 0;
  bool ended_ = false;
  std::unique_ptr<link::RouterLink> routers_;  // last: its thread rings
};

class SimProcess {
 public:
  SimProcess(const config::Cluster& cluster, const std::vector<const config::Group*>& groups)
      : cluster_(cluster),
        first_(*groups.front()),
        signals_(BlockSignals()),
        ended_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    TANDEM_CHECK(signals_.valid() && ended_.valid()) << "no descriptors left";
    AllowManyFiles();
  }

  Status Start(const std::vector<const config::Group*>& groups, const std::string& name);
  void Run();

 private:
  Status TakeName(const std::string& name);
  LeaderOptions OptionsOf() const;
  void RunEngine();
  void ReadSignals();

  const config::Cluster& cluster_;
  const config::Group& first_;  // they are equal but for their names
  link::UniqueFd signals_;
  link::UniqueFd ended_;
  std::unique_ptr<link::RankLink> name_;
  DeviceProfile profile_;
  sim::SimModel model_;
  std::unique_ptr<sim::SimSampler> sampler_;
  link::Bell bell_;
  std::shared_ptr<link::LinkThread> thread_;
  std::unique_ptr<Grammars> grammars_;  // of all groups
  std::vector<std::unique_ptr<SimGroup>> groups_;
};

// As a leader does: whoever has the lock owns the name on this machine, and `tandem drain` finds
// the process by the socket.
Status SimProcess::TakeName(const std::string& name) {
  link::RankLinkOptions options;
  options.runtime_dir = cluster_.links.runtime_dir;
  options.group = name;
  options.comm_bytes = 1;  // nobody joins to use it
  TANDEM_ASSIGN_OR_RETURN(name_, link::RankLink::Open(options));
  return OkStatus();
}

LeaderOptions SimProcess::OptionsOf() const {
  LeaderOptions options;
  options.engine = EngineOptionsFor(cluster_, first_, profile_, model_);
  options.min_watchdog = first_.min_watchdog;
  options.drain_timeout = cluster_.router.limits.drain_timeout;
  return options;
}

Status SimProcess::Start(const std::vector<const config::Group*>& groups, const std::string& name) {
  TANDEM_RETURN_IF_ERROR(TakeName(name));
  TANDEM_ASSIGN_OR_RETURN(profile_, config::LoadDeviceProfile(first_.profile));
  TANDEM_ASSIGN_OR_RETURN(model_, sim::LoadSimModel(cluster_.ModelOf(first_).path));
  if (profile_.kv_tokens < first_.block_size) {
    return InvalidArgument("{}: kv_tokens is {}, less than a block of {} (group '{}')",
                           first_.profile, profile_.kv_tokens, first_.block_size, name);
  }
  sampler_ = std::make_unique<sim::SimSampler>(model_.reply_tokens);
  thread_ = std::make_shared<link::LinkThread>();
  LeaderOptions options = OptionsOf();
  grammars_ = std::make_unique<Grammars>(cluster_.ModelOf(first_).path, model_.vocab_size,
                                         [this] { bell_.Ring(); });
  options.grammars = grammars_.get();
  for (const config::Group* group : groups) {
    groups_.push_back(std::make_unique<SimGroup>(options, profile_, *sampler_, bell_));
    link::RouterLinkOptions routers;
    routers.endpoints = cluster_.links.routers;
    routers.self = Describe(*group, profile_, options.engine);
    routers.thread = thread_;
    TANDEM_RETURN_IF_ERROR(groups_.back()->Open(std::move(routers)));
  }
  observe::LogInfo("{} simulated group{} of '{}': {}, {} KV blocks each", groups.size(),
                   groups.size() == 1 ? "" : "s", name, profile_.name, options.engine.num_blocks);
  return OkStatus();
}

void SimProcess::Run() {
  std::thread engine([this] { RunEngine(); });
  for (;;) {
    pollfd items[] = {{ended_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    ::poll(items, 2, -1);
    if (items[0].revents != 0) break;
    ReadSignals();
  }
  engine.join();
  thread_->CloseWhenEmpty();
  thread_->WaitEnded(MonotonicNow() + 2 * kGoodbyeFlush);
}

void SimProcess::ReadSignals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    observe::LogInfo("signal {} from process {}", info.ssi_signo, info.ssi_pid);
    for (const auto& group : groups_) group->StartDraining();
  }
}

void SimProcess::RunEngine() {
  // Steps end when they should: by default the kernel may be 50 us late to save a wake-up.
  ::prctl(PR_SET_TIMERSLACK, 1);
  for (bool serving = true; serving;) {
    const uint32_t seen = bell_.count();
    Nanos due = MonotonicNow() + kMaxSleep;
    serving = false;
    for (const auto& group : groups_) {
      if (group->ended()) continue;
      group->TurnIfDue(MonotonicNow());
      due = std::min(due, group->due());
      serving |= !group->ended();
    }
    const Nanos wait = due - MonotonicNow();
    if (serving && wait > 0) bell_.Wait(seen, wait);
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(ended_.get(), &one, sizeof(one));
}

int Refuse(const Status& status) {
  observe::LogError("{}", Message(status));
  const bool mistake = status.code() == StatusCode::kInvalidArgument ||
                       status.code() == StatusCode::kNotFound ||
                       status.code() == StatusCode::kUnimplemented;
  return mistake ? kExitMistake : kExitFailed;
}

}  // namespace

int RunSimulated(const config::Cluster& cluster, const std::vector<const config::Group*>& groups,
                 const std::string& name) {
  SimProcess process(cluster, groups);
  if (const Status status = process.Start(groups, name); !status.ok()) return Refuse(status);
  process.Run();
  observe::LogInfo("the simulated groups have shut down");
  return kExitDone;
}

}  // namespace tandem::worker
