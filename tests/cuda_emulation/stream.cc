#include "tests/cuda_emulation/stream.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/report.h"

namespace tandem::emulation {
namespace {

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;
constexpr int kMaxDevices = 64;
constexpr int kYields = 200;  // of a thread that waits for another process, before it sleeps

struct Device {
  std::vector<std::shared_ptr<CUstream_st>> streams;
  bool running = false;  // some thread runs a piece of work
  std::mt19937_64 random;
  cudaError_t error = cudaSuccess;
  int64_t kernels = 0;
  bool asked = false;  // a query left work to the device's own thread
  Clock::time_point last_call;
  int progress_pid = 0;  // where the thread that runs forgotten work is
};

struct Order {
  uint64_t enqueued = 0;
  uint64_t begun = 0;
};

struct Runtime {
  std::mutex mutex;
  std::condition_variable changed;
  Device devices[kMaxDevices];
  std::unordered_map<cudaStream_t, std::shared_ptr<CUstream_st>> streams;
  std::unordered_map<cudaEvent_t, std::shared_ptr<CUevent_st>> events;
  std::unordered_map<const void*, Order> orders;
  uint64_t next_stream = 1;

  // In a process that was forked off (a death test): the threads that waited or ran are not there.
  void StartAnew() {
    new (&mutex) std::mutex;
    new (&changed) std::condition_variable;
    for (Device& device : devices) device.running = false;
  }
};

Runtime& TheRuntime() {
  static Runtime* runtime = [] {
    auto* r = new Runtime;  // never destroyed: work may run while the process exits
    for (int d = 0; d < kMaxDevices; ++d) r->devices[d].random.seed(GetOptions().seed * 64 + d);
    pthread_atfork([] { TheRuntime().mutex.lock(); }, [] { TheRuntime().mutex.unlock(); },
                   [] { TheRuntime().StartAnew(); });
    return r;
  }();
  return *runtime;
}

using Item = CUstream_st::Item;

bool Ready(const Item& item) {
  if (item.wait != nullptr) return item.wait->done;
  if (item.work.order == nullptr || item.stepper) return true;
  return TheRuntime().orders[item.work.order].begun + 1 == item.turn;
}

void Pop(CUstream_st& stream) {
  stream.items.pop_front();
  if (!stream.items.empty() || !stream.destroyed) return;
  std::erase_if(TheRuntime().devices[stream.device].streams,
                [&](const auto& s) { return s.get() == &stream; });
}

// The launch after the first item, if it may begin before that one ends.
const GridLaunch* DependentOf(const CUstream_st& stream, Device& device) {
  if (stream.items.size() < 2) return nullptr;
  const auto& next = stream.items[1].work.grid;
  return next && next->dependent && device.random() % 2 == 0 ? &*next : nullptr;
}

// Runs (a step of) the stream's first item.
Step RunFirst(Lock& lock, Device& device, CUstream_st& stream) {
  Item& item = stream.items.front();
  if (item.mark != nullptr) {
    item.mark->at = Clock::now();
    item.mark->done = true;
    return Step::kDone;
  }
  if (item.wait != nullptr) return Step::kDone;
  if (item.work.grid) {
    const GridLaunch* dependent = DependentOf(stream, device);
    lock.unlock();
    RunKernel(stream.device, *item.work.grid, dependent);
    lock.lock();
    if (dependent != nullptr) Pop(stream);
    return Step::kDone;
  }
  if (!item.stepper && item.work.order != nullptr) ++TheRuntime().orders[item.work.order].begun;
  lock.unlock();
  if (!item.stepper) item.stepper = item.work.begin();
  const Step step = item.stepper();
  lock.lock();
  return step;
}

// Runs one piece of work of the device, of a stream drawn at random. False: there is none, or all
// of it waits.
bool RunOne(Lock& lock, int ordinal) {
  Runtime& runtime = TheRuntime();
  Device& device = runtime.devices[ordinal];
  if (device.running) {
    runtime.changed.wait_for(lock, std::chrono::milliseconds(100));
    return true;
  }
  std::vector<std::shared_ptr<CUstream_st>> ready;
  for (const auto& stream : device.streams) {
    if (!stream->items.empty() && Ready(stream->items.front())) ready.push_back(stream);
  }
  std::shuffle(ready.begin(), ready.end(), device.random);
  for (const auto& stream : ready) {
    device.running = true;
    const Step step = RunFirst(lock, device, *stream);
    device.running = false;
    if (step == Step::kDone) Pop(*stream);
    runtime.changed.notify_all();
    if (step != Step::kBlocked) return true;
  }
  return false;
}

// What the streams of a device wait for, for the report of a program that hangs.
std::string DescribeStuck(const Device& device) {
  std::string text;
  for (const auto& stream : device.streams) {
    if (stream->items.empty()) continue;
    const Item& item = stream->items.front();
    text += fmt::format("; stream {}: {} in line, first {}", stream->id, stream->items.size(),
                        item.wait != nullptr ? "a wait for an event" : item.work.name);
  }
  return text;
}

// Between two attempts of a thread that waits for something that is not of this device.
class Patience {
 public:
  void Reset() { tries_ = 0; }
  void Wait(Lock& lock, const Device& device) {
    if (tries_++ == 0) since_ = Clock::now();
    if (tries_ < kYields) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
      return;
    }
    TheRuntime().changed.wait_for(lock, std::chrono::microseconds(50));
    // Collectives have a time limit of their own, and say more.
    if (Clock::now() - since_ > std::chrono::seconds(2 * GetOptions().collective_seconds)) {
      Fail("the device is stuck{}", DescribeStuck(device));
    }
  }

 private:
  int tries_ = 0;
  Clock::time_point since_;
};

template <class Done>
cudaError_t RunUntil(int ordinal, const Done& done) {
  Runtime& runtime = TheRuntime();
  Device& device = runtime.devices[ordinal];
  Lock lock(runtime.mutex);
  Patience patience;
  while (device.error == cudaSuccess && !done()) {
    device.last_call = Clock::now();
    if (RunOne(lock, ordinal)) {
      patience.Reset();
    } else {
      patience.Wait(lock, device);
    }
  }
  return device.error;
}

bool HasWork(const Device& device) {
  return std::any_of(device.streams.begin(), device.streams.end(),
                     [](const auto& s) { return !s->items.empty(); });
}

// Runs what nobody waits for, as a device does: for programs whose peers wait for it.
void RunForgottenWork(int ordinal) {
  Runtime& runtime = TheRuntime();
  Device& device = runtime.devices[ordinal];
  const auto patience = std::chrono::milliseconds(GetOptions().progress_ms);
  Lock lock(runtime.mutex);
  for (;;) {
    runtime.changed.wait(lock, [&] { return HasWork(device); });
    if (!device.asked && Clock::now() - device.last_call < patience) {
      runtime.changed.wait_for(lock, patience);
      continue;
    }
    device.asked = false;
    if (!RunOne(lock, ordinal)) {
      runtime.changed.wait_for(lock, std::chrono::milliseconds(1));
    }
  }
}

// Whether a kernel comes that may wait for those of other devices.
bool MayWait(const Device& device) {
  return std::any_of(device.streams.begin(), device.streams.end(), [](const auto& s) {
    return !s->items.empty() && s->items.front().work.grid &&
           s->items.front().work.grid->cooperative;
  });
}

// For queries, which never wait: what may is for the device's own thread.
void RunWithoutWaiting(Lock& lock, int ordinal) {
  Device& device = TheRuntime().devices[ordinal];
  if (device.running) return;
  if (MayWait(device)) {
    device.asked = true;
    TheRuntime().changed.notify_all();
  } else {
    RunOne(lock, ordinal);
  }
}

void Append(CUstream_st& stream, Item item) {
  // A collective in the call would wait for peers that this thread's program has yet to call.
  const bool now = GetOptions().streams == Streams::kSync && item.work.order == nullptr;
  {
    const Lock lock(TheRuntime().mutex);
    Device& device = TheRuntime().devices[stream.device];
    if (item.work.order != nullptr) item.turn = ++TheRuntime().orders[item.work.order].enqueued;
    stream.items.push_back(std::move(item));
    device.last_call = Clock::now();
    if (!now && device.progress_pid != getpid()) {
      device.progress_pid = getpid();
      std::thread(RunForgottenWork, stream.device).detach();
    }
    if (stream.items.size() == 1) TheRuntime().changed.notify_all();
  }
  if (now) static_cast<void>(WaitStream(stream));
}

void RefuseDefaultStream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) {
    Fail("use of the default stream, which synchronizes with others unseen: name a stream");
  }
}

}  // namespace

Work Simple(std::string name, std::function<void()> run) {
  Work work;
  work.name = std::move(name);
  work.begin = [run = std::move(run)]() -> Stepper {
    return [run] {
      const DeviceAccess access;
      run();
      return Step::kDone;
    };
  };
  return work;
}

std::shared_ptr<CUstream_st> FindStream(cudaStream_t handle) {
  RefuseDefaultStream(handle);
  const Lock lock(TheRuntime().mutex);
  const auto it = TheRuntime().streams.find(handle);
  return it == TheRuntime().streams.end() ? nullptr : it->second;
}

std::shared_ptr<CUevent_st> FindEvent(cudaEvent_t handle) {
  const Lock lock(TheRuntime().mutex);
  const auto it = TheRuntime().events.find(handle);
  return it == TheRuntime().events.end() ? nullptr : it->second;
}

cudaStream_t MakeStream(int device, unsigned flags, int priority) {
  const auto stream = std::make_shared<CUstream_st>();
  stream->device = device;
  stream->flags = flags;
  stream->priority = priority;
  const Lock lock(TheRuntime().mutex);
  stream->id = TheRuntime().next_stream++;
  TheRuntime().streams.emplace(stream.get(), stream);
  TheRuntime().devices[device].streams.push_back(stream);
  return stream.get();
}

bool DropStream(cudaStream_t handle) {
  RefuseDefaultStream(handle);
  const Lock lock(TheRuntime().mutex);
  const auto it = TheRuntime().streams.find(handle);
  if (it == TheRuntime().streams.end()) return false;
  const auto stream = it->second;
  stream->destroyed = true;
  if (stream->items.empty()) std::erase(TheRuntime().devices[stream->device].streams, stream);
  TheRuntime().streams.erase(it);
  return true;
}

cudaEvent_t MakeEvent(int device, unsigned flags) {
  const auto event = std::make_shared<CUevent_st>();
  event->device = device;
  event->flags = flags;
  const Lock lock(TheRuntime().mutex);
  TheRuntime().events.emplace(event.get(), event);
  return event.get();
}

bool DropEvent(cudaEvent_t handle) {
  const Lock lock(TheRuntime().mutex);
  return TheRuntime().events.erase(handle) > 0;
}

void Enqueue(CUstream_st& stream, Work work) {
  Item item;
  item.work = std::move(work);
  Append(stream, std::move(item));
}

void EnqueueRecord(CUstream_st& stream, CUevent_st& event) {
  const auto point = std::make_shared<Point>();
  {
    const Lock lock(TheRuntime().mutex);
    event.point = point;
    event.capture = nullptr;
  }
  Item item;
  item.mark = point;
  Append(stream, std::move(item));
}

void EnqueueWait(CUstream_st& stream, const std::shared_ptr<Point>& point) {
  Item item;
  item.wait = point;
  Append(stream, std::move(item));
}

cudaError_t WaitStream(CUstream_st& stream) {
  return RunUntil(stream.device, [&] { return stream.items.empty(); });
}

cudaError_t WaitDevice(int device) {
  return RunUntil(device, [&] { return !HasWork(TheRuntime().devices[device]); });
}

cudaError_t WaitBlockingStreams(int device) {
  return RunUntil(device, [&] {
    const auto& streams = TheRuntime().devices[device].streams;
    return std::all_of(streams.begin(), streams.end(), [](const auto& s) {
      return (s->flags & cudaStreamNonBlocking) != 0 || s->items.empty();
    });
  });
}

cudaError_t WaitPoint(int device, const std::shared_ptr<Point>& point) {
  return RunUntil(device, [&] { return point->done; });
}

void WaitUntilNothingRuns() {
  Lock lock(TheRuntime().mutex);
  TheRuntime().changed.wait(lock, [] {
    const auto& devices = TheRuntime().devices;
    return std::none_of(std::begin(devices), std::end(devices),
                        [](const Device& device) { return device.running; });
  });
}

bool QueryStream(CUstream_st& stream) {
  Lock lock(TheRuntime().mutex);
  if (stream.items.empty()) return true;
  RunWithoutWaiting(lock, stream.device);
  return false;
}

bool QueryPoint(int device, const std::shared_ptr<Point>& point) {
  Lock lock(TheRuntime().mutex);
  if (point->done) return true;
  RunWithoutWaiting(lock, device);
  return false;
}

void RunKernel(int ordinal, const GridLaunch& launch, const GridLaunch* dependent) {
  Device& device = TheRuntime().devices[ordinal];
  {
    const Lock lock(TheRuntime().mutex);
    if (device.error != cudaSuccess) return;
    device.kernels += dependent == nullptr ? 1 : 2;
    const int64_t fail = GetOptions().fail_launch;
    if (fail > 0 && device.kernels >= fail) {
      device.error = cudaErrorLaunchFailure;
      return;
    }
  }
  const DeviceAccess access;
  if (dependent == nullptr) {
    RunGrid(launch);
  } else {
    RunDependent(launch, *dependent);
  }
}

void FailDevice(int device, cudaError_t error) {
  const Lock lock(TheRuntime().mutex);
  TheRuntime().devices[device].error = error;
  TheRuntime().changed.notify_all();
}

cudaError_t DeviceError(int device) {
  const Lock lock(TheRuntime().mutex);
  return TheRuntime().devices[device].error;
}

uint64_t Draw(int device, uint64_t n) {
  const Lock lock(TheRuntime().mutex);
  return TheRuntime().devices[device].random() % n;
}

bool& InHostFunction() {
  thread_local bool inside = false;
  return inside;
}

}  // namespace tandem::emulation
