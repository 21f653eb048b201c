#include "worker/worker_process.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <thread>

#include "common/check.h"
#include "common/clock.h"
#include "common/observe/log.h"
#include "kernels/comm/gloo_communicator.h"
#include "kernels/comm/local_communicator.h"
#include "kernels/comm/shm_communicator.h"
#include "worker/build_id.h"
#include "worker/cpu_share.h"
#include "worker/leader.h"
#include "worker/link/rank_link.h"
#include "worker/link/router_link.h"
#include "worker/model/model_runner.h"
#include "worker/rank_loop.h"
#include "worker/ring_ranks.h"
#include "worker/step_limit.h"
#include "worker/watchdog.h"

namespace tandem::worker {
namespace {

// Of one rank in one round; larger tensors take several. A step of 256 tokens and 2,048 hidden
// values fits.
constexpr size_t kCommBytes = 2 << 20;
constexpr Nanos kMinIdleLimit = kSecond;         // several idle steps
constexpr Nanos kMinSilenceLimit = 5 * kSecond;  // while loading: a busy machine may be slow
constexpr int kSignalsApartMs = 20;
constexpr Nanos kGoodbyeFlush = 200 * kMillisecond;
constexpr Nanos kPeersEnd = kSecond;  // before ranks that have not ended are killed
constexpr Nanos kAbortLimit = 500 * kMillisecond;

int BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

Nonce RandomNonce() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) | 1;
}

int ExitFor(const Status& status) {
  if (status.code() == StatusCode::kCancelled) {
    observe::LogInfo("told to stop before the group was complete");
    return kExitDone;
  }
  observe::LogError("{}", Message(status));
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kUnimplemented:
      return kExitMistake;
    case StatusCode::kFailedPrecondition:
      return kExitNoDevice;
    case StatusCode::kUnavailable:
      return kExitGroupLost;
    default:
      return kExitFailed;
  }
}

class Process {
 public:
  Process(const config::Cluster& cluster, const config::Group& group, int rank,
          const model::DeviceBackend* gpu)
      : cluster_(cluster),
        group_(group),
        served_(cluster.ModelOf(group)),
        rank_(rank),
        gpu_(gpu),
        signals_(BlockSignals()) {
    TANDEM_CHECK(signals_.valid()) << "no descriptors left";
  }

  int Run() {
    ShareCpus();
    Status ready = CheckModel();
    if (ready.ok()) ready = Meet();
    if (ready.ok()) ready = Load();
    if (ready.ok()) ready = Agree();
    if (!ready.ok()) return ExitFor(ready);
    return rank_ == 0 ? Lead() : Follow();
  }

 private:
  void ShareCpus();
  void Pin(bool to_first);
  model::ShardOptions ShardOptionsOf() const;
  bool OnGpu() const { return group_.device == "cuda"; }
  int DeviceIndex() const;
  Status CheckModel();
  Status Meet();
  link::RankLinkOptions LinkOptions() const;
  Status MakeCommunicator();
  Status ConnectHosts();
  Nanos SilenceLimit() const { return std::max(group_.min_watchdog, kMinSilenceLimit); }
  Status Load();
  Status Agree();
  int Lead();
  int Follow();
  void RunEngine(Leader& leader, link::Bell& bell);
  WatchdogOptions WatchdogFor();
  void WarnOfShortContext() const;
  bool ToldToStop(int wait_ms) const;
  [[noreturn]] void EndLost(const std::string& reason);
  // For the main thread: the watchdog ends the process.
  [[noreturn]] void WaitForTheEnd(const Status& why);
  void AbortDevice();
  void EndPeers();
  engine::EngineOptions EngineOptionsFor(int num_blocks) const;
  link::RouterLinkOptions RouterOptions(link::Bell& bell) const;

  const config::Cluster& cluster_;
  const config::Group& group_;
  const config::Model& served_;
  const int rank_;
  const model::DeviceBackend* const gpu_;
  link::UniqueFd signals_;
  std::vector<int> affinity_;  // of the process as it was started
  int threads_ = 1;            // that compute
  ClaimedCpus claimed_;        // none: they are not pinned
  std::unique_ptr<link::RankLink> ranks_;
  std::unique_ptr<kernels::Communicator> comm_;
  kernels::GlooCommunicator* hosts_comm_ = nullptr;  // comm_, if the ranks are on several hosts
  std::unique_ptr<model::ModelRunner> model_;
  std::atomic<model::ModelRunner*> loaded_{nullptr};  // for the watchdog's thread
  int num_blocks_ = 0;
  std::unique_ptr<link::RouterLink> routers_;
  std::atomic<bool> routers_open_{false};
  std::atomic<int> exit_code_{kExitDone};
  std::unique_ptr<Watchdog> watchdog_;  // last: its thread uses the others
};

void Process::ShareCpus() {
  if (OnGpu()) return;
  affinity_ = AffinityOfThisThread();
  const UsableCpus usable = ReadUsableCpus(affinity_);
  threads_ = ThreadsOfRank(cluster_, group_, rank_, usable);
  if (group_.pin == "auto") claimed_ = ClaimedCpus::Claim(cluster_, group_, rank_, usable);
  std::string where;
  for (const int cpu : claimed_.cpus()) {
    where += fmt::format("{}{}", where.empty() ? "on CPUs " : ", ", cpu);
  }
  if (where.empty()) where = "not pinned";
  const std::string quota = usable.quota > 0 ? fmt::format(", a quota of {}", usable.quota) : "";
  observe::LogInfo("{} compute thread{}, {}; the process may use {} CPUs{}", threads_,
                   threads_ == 1 ? "" : "s", where, usable.cpus.size(), quota);
}

// The main thread, which is the first compute thread. Threads that others start must not inherit
// it.
void Process::Pin(bool to_first) {
  if (claimed_.cpus().empty()) return;
  const std::span<const int> first = std::span(claimed_.cpus()).first(1);
  if (!RunThisThreadOn(to_first ? first : std::span<const int>(affinity_))) {
    observe::LogWarn("cannot stay on CPU {}", first[0]);
  }
}

link::RankLinkOptions Process::LinkOptions() const {
  link::RankLinkOptions options;
  options.runtime_dir = cluster_.links.runtime_dir;
  options.group = group_.name;
  options.rank = rank_;
  options.tp = group_.tp;
  if (group_.tp > 1 && group_.rendezvous_port != 0) {
    options.host = group_.hosts.front();
    options.port = group_.rendezvous_port;
  }
  options.build = BuildId();
  options.settings =
      fmt::format("{}/{} on {}, {} sequences, {} tokens a step, blocks of {}",
                  group_.activation_dtype, group_.kv_cache_dtype, group_.instruction_set,
                  group_.max_seqs, group_.max_step_tokens, group_.block_size);
  options.comm_bytes = kernels::ShmCommunicator::RequiredBytes(group_.tp, kCommBytes);
  options.stop_fd = signals_.get();
  options.silence_limit = SilenceLimit();
  return options;
}

Status Process::Meet() {
  TANDEM_ASSIGN_OR_RETURN(ranks_, link::RankLink::Open(LinkOptions()));
  TANDEM_RETURN_IF_ERROR(MakeCommunicator());
  TANDEM_RETURN_IF_ERROR(ranks_->WaitForRanks());
  watchdog_ = std::make_unique<Watchdog>(WatchdogFor(), *ranks_);
  return hosts_comm_ == nullptr ? OkStatus() : ConnectHosts();
}

Status Process::MakeCommunicator() {
  if (group_.tp == 1) {
    comm_ = std::make_unique<kernels::LocalCommunicator>();
    return OkStatus();
  }
  if (const std::string address = ranks_->address(); !address.empty()) {
    TANDEM_ASSIGN_OR_RETURN(
        auto comm, kernels::GlooCommunicator::Create(address, rank_, group_.tp, kCommBytes));
    hosts_comm_ = comm.get();
    comm_ = std::move(comm);
    return OkStatus();
  }
  if (rank_ == 0) {
    kernels::ShmCommunicator::Format(ranks_->comm_region(), group_.tp, kCommBytes);
  }
  TANDEM_ASSIGN_OR_RETURN(
      comm_, kernels::ShmCommunicator::Attach(ranks_->comm_region(), rank_, group_.tp));
  return OkStatus();
}

// Under the watchdog's eyes, which ends what a cut link would make endless.
Status Process::ConnectHosts() {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> addresses,
                          ranks_->ExchangeAddresses(hosts_comm_->addresses()));
  TANDEM_RETURN_IF_ERROR(hosts_comm_->Connect(addresses));
  observe::LogInfo("connected to all ranks, from {}", ranks_->address());
  return OkStatus();
}

model::ShardOptions Process::ShardOptionsOf() const {
  model::ShardOptions options;
  options.model_path = served_.path;
  options.threads = threads_;
  options.cpus = claimed_.cpus();
  options.block_size = group_.block_size;
  options.kv_memory_bytes = group_.kv_memory_bytes;
  options.max_seqs = group_.max_seqs;
  options.max_step_tokens = group_.max_step_tokens;
  options.max_context = served_.max_context;
  options.activation_dtype = group_.activation_dtype;
  options.kv_cache_dtype = group_.kv_cache_dtype;
  options.instruction_set = group_.instruction_set;
  options.say = [](const std::string& line) { observe::LogInfo("{}", line); };
  if (OnGpu()) {
    options.gpu = gpu_;
    options.device_index = DeviceIndex();
    options.cuda_graphs = group_.cuda_graphs;
    options.peer_memory = group_.peer_memory;
    options.meet = [this] { return ranks_->Meet(); };
    options.algorithms_file =
        fmt::format("{}/{}-{}.matmul", cluster_.links.runtime_dir, group_.name, rank_);
  }
  return options;
}

// The ranks before this one that run on the same machine have the GPUs before its own.
int Process::DeviceIndex() const {
  if (!group_.devices.empty()) return group_.devices[static_cast<size_t>(rank_)];
  if (group_.hosts.size() <= 1) return rank_;
  const auto own = group_.hosts.begin() + rank_;
  return static_cast<int>(std::count(group_.hosts.begin(), own, *own));
}

// Before the other ranks are waited for: what is wrong with the model is said at once.
Status Process::CheckModel() {
  if (OnGpu() && gpu_ == nullptr) {
    return InvalidArgument(
        "group {} has 'device: cuda', and this tandem-worker was built without CUDA; build it "
        "where nvcc 12.9 or later is found, or say 'device: cpu'",
        group_.name);
  }
  TANDEM_ASSIGN_OR_RETURN(const int context,
                          model::ModelRunner::Check(ShardOptionsOf(), rank_, group_.tp));
  if (rank_ == 0 && served_.max_context > context) {
    observe::LogWarn("max_context of the model '{}' is {}, but it was trained for {}, which hold",
                     served_.name, served_.max_context, context);
  }
  return OkStatus();
}

Status Process::Load() {
  const model::ShardOptions options = ShardOptionsOf();
  const Nanos start = MonotonicNow();
  Pin(true);  // what it writes is then in the memory near its CPU
  TANDEM_ASSIGN_OR_RETURN(model_, model::ModelRunner::Load(options, *comm_));
  Pin(false);
  loaded_.store(model_.get(), std::memory_order_release);
  observe::LogInfo("loaded {} in {} ms: {}, {} KV blocks fit", options.model_path,
                   (MonotonicNow() - start) / kMillisecond, model_->info().instruction_set,
                   model_->info().num_blocks);
  if (!model_->info().tokens && rank_ == 0) {
    observe::LogInfo("{} has no output matrix: it gives embeddings and no tokens", served_.name);
  }
  return OkStatus();
}

Status Process::Agree() {
  const model::ModelInfo& info = model_->info();
  // The group's blocks are at most these, so the ring is large enough.
  const PlanLimits limits = engine::Engine::LimitsOf(EngineOptionsFor(info.num_blocks));
  TANDEM_ASSIGN_OR_RETURN(
      num_blocks_,
      ranks_->Agree({info.fingerprint, info.instruction_set, info.num_blocks}, limits));
  const Nanos start = MonotonicNow();
  TANDEM_RETURN_IF_ERROR(model_->Prepare(num_blocks_));
  observe::LogInfo("memory of {} KV blocks taken in {} ms", num_blocks_,
                   (MonotonicNow() - start) / kMillisecond);
  return OkStatus();
}

engine::EngineOptions Process::EngineOptionsFor(int num_blocks) const {
  const model::ModelInfo& info = model_->info();
  engine::EngineOptions options;
  options.num_blocks = num_blocks;
  options.block_size = group_.block_size;
  options.max_context = info.max_context;
  options.vocab_size = info.vocab_size;
  options.max_seqs = group_.max_seqs;
  options.max_step_tokens = group_.max_step_tokens;
  options.max_step_time = group_.max_step_time;
  options.penalties = info.penalties;
  options.tokens = info.tokens;
  options.embeddings = info.embedding_size > 0;
  options.hash_seed = info.fingerprint;
  return options;
}

link::RouterLinkOptions Process::RouterOptions(link::Bell& bell) const {
  const model::ModelInfo& info = model_->info();
  link::RouterLinkOptions options;
  options.endpoints = cluster_.links.routers;
  options.on_inbound = [&bell] { bell.Ring(); };
  link::GroupDescription& self = options.self;
  self.build = BuildId();
  self.group = group_.name;
  self.model = served_.name;
  self.fingerprint = info.fingerprint;
  self.hash_seed = info.fingerprint;
  self.dtype = group_.activation_dtype + "/" + group_.kv_cache_dtype;
  self.device_class = group_.device + "/" + info.instruction_set;
  self.incarnation = RandomNonce();
  self.block_size = group_.block_size;
  self.tp = group_.tp;
  self.max_context = engine::Engine::ContextOf(EngineOptionsFor(num_blocks_));
  self.max_seqs = group_.max_seqs;
  self.max_step_tokens = group_.max_step_tokens;
  self.num_blocks = num_blocks_;
  self.watchdog = group_.min_watchdog;
  self.embedding_size = info.embedding_size;
  return options;
}

WatchdogOptions Process::WatchdogFor() {
  WatchdogOptions options;
  options.signal_fd = signals_.get();
  options.idle_limit = std::max(group_.min_watchdog, kMinIdleLimit);
  options.silence_limit = SilenceLimit();
  options.share = rank_ == 0 ? kLeaderShare : kFollowerShare;
  options.on_lost = [this](const std::string& reason) { EndLost(reason); };
  // Nobody knows of the group yet, and its threads may be anywhere in the model file.
  options.on_stopped_loading = [] {
    ::_exit(ExitFor(MakeStatus(StatusCode::kCancelled, "told to stop")));
  };
  return options;
}

int Process::Follow() {
  watchdog_->WatchSteps([this] { ranks_->ring().RequestDrain(); });
  Pin(true);
  const Status ended = RunRank(*model_, ranks_->ring(), rank_, nullptr);
  if (!ended.ok()) WaitForTheEnd(ended);
  observe::LogInfo("the group has shut down");
  return kExitDone;
}

int Process::Lead() {
  link::Bell bell;
  LeaderOptions options;
  options.engine = EngineOptionsFor(num_blocks_);
  options.min_watchdog = group_.min_watchdog;
  options.drain_timeout = cluster_.router.limits.drain_timeout;
  Grammars grammars(served_.path, options.engine.vocab_size, [&bell] { bell.Ring(); });
  options.grammars = &grammars;
  StepResults results(ranks_->ring().limits().max_rows, [&bell] { bell.Ring(); });
  RingRanks ranks(*ranks_, results);
  Leader leader(options, ranks, bell);
  watchdog_->WatchSteps([&leader] { leader.StartDraining(); });
  std::thread engine([&] { RunEngine(leader, bell); });
  Pin(true);
  const Status ended = RunRank(*model_, ranks_->ring(), 0, &results);
  if (!ended.ok()) WaitForTheEnd(ended);
  engine.join();
  routers_.reset();
  watchdog_.reset();  // it may still call the leader
  observe::LogInfo("the group has shut down");
  return exit_code_;
}

// Routers hear of the group once its ranks have met in a step.
void Process::RunEngine(Leader& leader, link::Bell& bell) {
  ::pthread_setname_np(::pthread_self(), "engine");
  link::PlanRing& ring = ranks_->ring();
  if (!leader.RunFirstStep()) return;
  auto routers = link::RouterLink::Open(RouterOptions(bell));
  if (!routers.ok()) {
    exit_code_ = ExitFor(routers.status());
    ring.Shutdown();
    return;
  }
  routers_ = std::move(routers).value();
  routers_open_.store(true, std::memory_order_release);
  observe::LogInfo("group {} is complete: tp {}, {} KV blocks", group_.name, group_.tp,
                   num_blocks_);
  WarnOfShortContext();
  if (leader.Run(*routers_) != Leader::End::kDrained) return;
  routers_->Goodbye("the group was told to stop", kGoodbyeFlush);
  routers_open_.store(false, std::memory_order_release);  // the main thread will destroy them
  ring.Shutdown();
}

void Process::WarnOfShortContext() const {
  const engine::EngineOptions options = EngineOptionsFor(num_blocks_);
  const int context = engine::Engine::ContextOf(options);
  if (context >= options.max_context) return;
  observe::LogWarn(
      "kv_memory of group {} holds {} tokens, so no prompt and reply together are longer, though "
      "the model takes {}; {} for more",
      group_.name, context, options.max_context,
      group_.kv_memory_bytes > 0 ? "raise groups[].kv_memory"
                                 : "lower max_step_tokens or max_seqs, or raise groups[].tp,");
}

void Process::WaitForTheEnd(const Status& why) {
  watchdog_->Report(std::string(Message(why)));
  for (;;) ::pause();
}

bool Process::ToldToStop(int wait_ms) const {
  pollfd waiting = {signals_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, wait_ms) > 0;
}

// On the watchdog's thread. Other threads may be stuck anywhere, so nothing is destroyed.
void Process::EndLost(const std::string& reason) {
  const bool known = routers_open_.load(std::memory_order_acquire);
  // All ranks are told one after the other; who was first may be gone before this one hears it.
  const bool told = ToldToStop(known ? 0 : kSignalsApartMs);
  if (told) {
    observe::LogInfo("told to stop; {}", reason);
  } else {
    observe::LogError("group {} is lost: {}", group_.name, reason);
  }
  comm_->Abort();
  if (known) routers_->Goodbye(reason, kGoodbyeFlush);
  AbortDevice();
  if (rank_ == 0) EndPeers();
  ::_exit(told || ToldToStop(0) ? kExitDone : kExitGroupLost);
}

// What a device does for others may hold it up for ever; then the end of the process must do.
void Process::AbortDevice() {
  model::ModelRunner* const model = loaded_.load(std::memory_order_acquire);
  if (model == nullptr || !OnGpu()) return;
  auto aborted = std::make_shared<std::atomic<bool>>(false);
  std::thread([model, aborted] {
    model->Abort();
    aborted->store(true, std::memory_order_release);
  }).detach();
  const Nanos until = MonotonicNow() + kAbortLimit;
  while (!aborted->load(std::memory_order_acquire) && MonotonicNow() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void Process::EndPeers() {
  const Nanos until = MonotonicNow() + kPeersEnd;
  while (!ranks_->LivePeers().empty() && MonotonicNow() < until) {
    ranks_->PollPeers(10 * kMillisecond, -1);
  }
  for (const int peer : ranks_->LivePeers()) {
    observe::LogWarn("rank {} ({}) does not end; killed", peer, ranks_->name_of(peer));
    ranks_->Kill(peer);
  }
}

}  // namespace

int RunWorker(const config::Cluster& cluster, const config::Group& group, int rank,
              const model::DeviceBackend* gpu) {
  return Process(cluster, group, rank, gpu).Run();
}

}  // namespace tandem::worker
