// Streams, events and the device that runs what they hold.
//
// Work is enqueued on a stream and runs in a thread that waits for it (or, if nobody does for a
// while, in a thread of the device's), one piece at a time for each device. With
// Options::streams deferred, whose turn it is among the streams is drawn at random, which is how
// missing dependencies are found; with sync everything but collectives runs in the call that
// enqueues it.
//
// Work that waits for another process (a collective) says so and is asked again, so that other
// streams go on meanwhile.
//
// Thread: any. One lock for all of it, not held while work runs.
#pragma once

#include <driver_types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "tests/cuda_emulation/grid.h"

namespace tandem::emulation {

enum class Step : uint8_t {
  kDone,
  kMore,     // something was done, there is more
  kBlocked,  // nothing could be done now
};
using Stepper = std::function<Step()>;

// What a stream or a node of a graph holds: a kernel, or something that is begun and then stepped
// until it is done. A graph begins the same Work many times.
struct Work {
  std::string name;
  std::optional<GridLaunch> grid;
  std::function<Stepper()> begin;
  // Work of one order starts in the order in which it was enqueued, on whatever streams: the
  // collectives of one communicator.
  const void* order = nullptr;
};
// Work that is one call, made with device memory accessible.
Work Simple(std::string name, std::function<void()> run);

// A place in a stream that an event was recorded at.
struct Point {
  bool done = false;
  std::chrono::steady_clock::time_point at;
};

class Capture;

}  // namespace tandem::emulation

struct CUstream_st {
  struct Item {
    tandem::emulation::Work work;
    tandem::emulation::Stepper stepper;              // once begun
    std::shared_ptr<tandem::emulation::Point> mark;  // an event's record, instead of work
    std::shared_ptr<tandem::emulation::Point> wait;  // a wait for one, instead of work
    uint64_t turn = 0;                               // within work.order
  };
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  uint64_t id = 0;  // for reports
  std::deque<Item> items;
  bool destroyed = false;  // by the program; lives on until it is empty
  std::shared_ptr<tandem::emulation::Capture> capture;
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  std::shared_ptr<tandem::emulation::Point> point;      // null: never recorded
  std::shared_ptr<tandem::emulation::Capture> capture;  // if it was last recorded in one,
  std::set<int> nodes;                                  // after these
};

namespace tandem::emulation {

// Handles that are not of live objects: null, which says cudaErrorInvalidResourceHandle. The null
// stream, and the other two names of default streams, end the process: the project forbids them.
std::shared_ptr<CUstream_st> FindStream(cudaStream_t handle);
std::shared_ptr<CUevent_st> FindEvent(cudaEvent_t handle);

cudaStream_t MakeStream(int device, unsigned flags, int priority);
bool DropStream(cudaStream_t handle);
cudaEvent_t MakeEvent(int device, unsigned flags);
bool DropEvent(cudaEvent_t handle);

// Enqueue. With streams=sync they return when it is done, but for work that has an order.
void Enqueue(CUstream_st& stream, Work work);
void EnqueueRecord(CUstream_st& stream, CUevent_st& event);
void EnqueueWait(CUstream_st& stream, const std::shared_ptr<Point>& point);

// Run work until there is none left in the stream (of the device; of the device's streams that
// synchronize with the default stream; before the point). They return the device's error.
cudaError_t WaitStream(CUstream_st& stream);
cudaError_t WaitDevice(int device);
cudaError_t WaitBlockingStreams(int device);
cudaError_t WaitPoint(int device, const std::shared_ptr<Point>& point);

// Until no work of any device is running in this process.
void WaitUntilNothingRuns();

// Whether that is so now; if not, runs one piece of work, if there is any that can, or has the
// device's own thread run it, if it might wait.
bool QueryStream(CUstream_st& stream);
bool QueryPoint(int device, const std::shared_ptr<Point>& point);

// Runs one kernel, or two of which the second is a dependent launch, unless the device has failed.
void RunKernel(int device, const GridLaunch& launch, const GridLaunch* dependent);

// An error that stays: the device runs no more kernels, and every call says so.
void FailDevice(int device, cudaError_t error);
cudaError_t DeviceError(int device);

// A number below `n`, drawn from the seed of the device.
uint64_t Draw(int device, uint64_t n);

// Whether this thread runs a function enqueued by cudaLaunchHostFunc, which may not call CUDA.
bool& InHostFunction();

}  // namespace tandem::emulation
