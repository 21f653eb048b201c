#include "tests/cuda_emulation/nccl_group.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <list>
#include <random>

#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/report.h"

namespace tandem::emulation {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kMagic = 0x4c43434e4d444e54;  // "TNDMNCCL"

struct TypeInfo {
  ncclDataType_t type;
  const char* name;
  size_t bytes;
};
constexpr TypeInfo kTypes[] = {
    {ncclInt8, "int8", 1},     {ncclUint8, "uint8", 1},  {ncclInt32, "int32", 4},
    {ncclUint32, "uint32", 4}, {ncclInt64, "int64", 8},  {ncclUint64, "uint64", 8},
    {ncclFloat16, "fp16", 2},  {ncclFloat32, "fp32", 4}, {ncclBfloat16, "bf16", 2}};

const TypeInfo* InfoOf(ncclDataType_t type) {
  for (const TypeInfo& info : kTypes) {
    if (info.type == type) return &info;
  }
  return nullptr;
}

struct IdContent {
  uint64_t magic;
  int32_t pid;
  int32_t fd;
  uint64_t nonce;
};
static_assert(sizeof(IdContent) <= sizeof(ncclUniqueId));

float Load(const float* p) { return *p; }
float Load(const __half* p) { return __half2float(*p); }
float Load(const __nv_bfloat16* p) { return __bfloat162float(*p); }
void Store(float* p, float x) { *p = x; }
void Store(__half* p, float x) { *p = __float2half_rn(x); }
void Store(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }

// out = parts[0] + parts[1] + ..., in this order, rounded once.
template <class T>
void Sum(const std::vector<std::vector<char>>& parts, std::vector<char>& out) {
  auto* to = reinterpret_cast<T*>(out.data());
  for (size_t i = 0; i < out.size() / sizeof(T); ++i) {
    float sum = 0;
    for (const auto& part : parts) sum += Load(reinterpret_cast<const T*>(part.data()) + i);
    Store(to + i, sum);
  }
}

}  // namespace

size_t ElementBytes(ncclDataType_t type) {
  const TypeInfo* info = InfoOf(type);
  return info == nullptr ? 0 : info->bytes;
}

bool CanSum(ncclDataType_t type) {
  return type == ncclFloat32 || type == ncclFloat16 || type == ncclBfloat16;
}

std::string Describe(const Collective& call) {
  constexpr const char* kNames[] = {"all-reduce", "all-gather", "broadcast", "send", "recv"};
  std::string text = fmt::format("{} of {} {}", kNames[static_cast<int>(call.op)], call.count,
                                 InfoOf(call.type)->name);
  if (call.op == Op::kBroadcast) text += fmt::format(" from rank {}", call.peer);
  return text;
}

// What a rank says of a call.
struct Post {
  Collective call;  // its pointers mean nothing to others
  SharedPlace place;
};

struct Group::Segment {
  struct alignas(64) Cell {
    std::atomic<uint32_t> joined;
    int32_t device;
    Post post;
    std::atomic<uint64_t> posted;  // collectives
    std::atomic<uint64_t> read;
  };
  struct alignas(64) Channel {
    enum State : uint32_t { kFree, kPosted, kTaken };
    std::atomic<uint32_t> state;
    Post post;
  };
  uint64_t magic;
  uint64_t nonce;
  std::atomic<int32_t> size;  // as the first rank to join has it
  Cell cells[kMaxRanks];
  Channel channels[kMaxRanks][kMaxRanks];  // from, to
};

ncclUniqueId Group::MakeId() {
  const int fd = memfd_create("tandem-nccl", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, sizeof(Segment)) != 0) Fail("no memory for a communicator");
  std::random_device random;
  const IdContent content{kMagic, getpid(), fd, uint64_t{random()} << 32 | random()};
  // The rest of the segment is zero, which is what it begins with.
  const uint64_t head[] = {content.magic, content.nonce};
  if (pwrite(fd, head, sizeof(head), 0) != sizeof(head)) Fail("no memory for a communicator");
  ncclUniqueId id = {};
  std::memcpy(id.internal, &content, sizeof(content));
  return id;
}

std::shared_ptr<Group> Group::Join(const ncclUniqueId& id, int rank, int size, int device,
                                   std::string& error) {
  IdContent content;
  std::memcpy(&content, id.internal, sizeof(content));
  if (content.magic != kMagic) {
    error = "the unique id is not one of ncclGetUniqueId";
    return nullptr;
  }
  const std::string path = fmt::format("/proc/{}/fd/{}", content.pid, content.fd);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  void* memory = MAP_FAILED;
  if (fd >= 0) {
    memory = mmap(nullptr, sizeof(Segment), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
  }
  auto* segment = static_cast<Segment*>(memory);
  if (memory == MAP_FAILED || segment->magic != kMagic || segment->nonce != content.nonce) {
    error = "the process that made the unique id is gone";
    return nullptr;
  }
  int32_t none = 0;
  if (!segment->size.compare_exchange_strong(none, size) && none != size) {
    error = fmt::format("rank {} of {} joins a group of {}", rank, size, none);
    return nullptr;
  }
  Segment::Cell& cell = segment->cells[rank];
  cell.device = device;
  if (cell.joined.exchange(1) != 0) Fail("NCCL: two ranks {} join one group", rank);
  return std::shared_ptr<Group>(new Group(segment, rank, size, device));
}

Group::Group(Segment* segment, int rank, int size, int device)
    : segment_(segment), rank_(rank), size_(size), device_(device) {}

Group::~Group() { munmap(segment_, sizeof(Segment)); }

ncclResult_t Group::Joined(std::string& error) const {
  for (int r = 0; r < size_; ++r) {
    if (segment_->cells[r].joined.load() == 0) {
      error = fmt::format("rank {} has not joined", r);
      return ncclInProgress;
    }
  }
  for (int r = 0; r < size_; ++r) {
    for (int s = 0; s < r; ++s) {
      if (segment_->cells[r].device != segment_->cells[s].device) continue;
      error = fmt::format("Duplicate GPU detected: rank {} and rank {} both on device {}", s, r,
                          segment_->cells[r].device);
      return ncclInvalidUsage;
    }
  }
  return ncclSuccess;
}

// One call on its way.
class Group::Transfer {
 public:
  Transfer(Group& group, const Collective& call) : group_(group), call_(call) {
    bytes_ = call.count * ElementBytes(call.type);
  }

  bool is_collective() const { return call_.op != Op::kSend && call_.op != Op::kRecv; }

  Step Advance() {
    const int before = phase_;
    const bool done = is_collective() ? AdvanceCollective() : AdvancePair();
    if (done) return Step::kDone;
    if (phase_ != before) {
      blocked_since_ = {};
      return Step::kMore;
    }
    CheckPatience();
    return Step::kBlocked;
  }

 private:
  // What stands in the device memory of this rank: freed memory is found here.
  SharedPlace Place(const void* address, size_t bytes) const {
    if (bytes == 0) return {};
    if (!FindRange(address, bytes)) {
      Fail("NCCL: rank {}: the memory of {} is freed or too small", group_.rank_, Describe(call_));
    }
    return PlaceOf(address);
  }

  void Read(int rank, const Post& post, size_t bytes, char* to) const {
    if (bytes > 0 && !ReadShared(post.place, to, bytes)) {
      Fail("NCCL: rank {} cannot read the memory of rank {}, which is gone", group_.rank_, rank);
    }
  }

  void Compare(int peer, const Collective& theirs) const {
    // A gather's and a reduction's roots mean nothing.
    const bool rooted = call_.op == Op::kBroadcast;
    if (theirs.op == call_.op && theirs.count == call_.count && theirs.type == call_.type &&
        (!rooted || theirs.peer == call_.peer)) {
      return;
    }
    Fail("NCCL: collective {} differs between ranks: rank {} is in {}, rank {} in {}", sequence_,
         group_.rank_, Describe(call_), peer, Describe(theirs));
  }

  // The lowest rank that is not there yet, or -1.
  template <class Arrived>
  int Missing(const Arrived& arrived) const {
    for (int r = 0; r < group_.size_; ++r) {
      if (!arrived(group_.segment_->cells[r])) return r;
    }
    return -1;
  }

  bool AdvanceCollective() {
    Segment::Cell& mine = group_.segment_->cells[group_.rank_];
    switch (phase_) {
      case 0: {
        sequence_ = ++group_.sequence_;
        const bool gives = call_.op != Op::kBroadcast || call_.peer == group_.rank_;
        mine.post = {call_, gives ? Place(call_.in, bytes_) : SharedPlace{}};
        mine.posted.store(sequence_, std::memory_order_release);
        phase_ = 1;
        return false;
      }
      case 1:
        waits_for_ = Missing([&](const Segment::Cell& cell) {
          return cell.posted.load(std::memory_order_acquire) >= sequence_;
        });
        if (waits_for_ >= 0) return false;
        ReadInputs();
        mine.read.store(sequence_, std::memory_order_release);
        phase_ = 2;
        return false;
      default:
        waits_for_ = Missing([&](const Segment::Cell& cell) {
          return cell.read.load(std::memory_order_acquire) >= sequence_;
        });
        if (waits_for_ >= 0) return false;
        WriteOutput();
        return true;
    }
  }

  void ReadInputs() {
    const auto& cells = group_.segment_->cells;
    for (int r = 0; r < group_.size_; ++r) Compare(r, cells[r].post.call);
    if (call_.op == Op::kBroadcast) {
      result_.resize(bytes_);
      Read(call_.peer, cells[call_.peer].post, bytes_, result_.data());
      return;
    }
    std::vector<std::vector<char>> parts(group_.size_, std::vector<char>(bytes_));
    for (int r = 0; r < group_.size_; ++r) Read(r, cells[r].post, bytes_, parts[r].data());
    if (call_.op == Op::kAllGather) {
      for (const auto& part : parts) result_.insert(result_.end(), part.begin(), part.end());
      return;
    }
    result_.resize(bytes_);
    if (call_.type == ncclFloat32) Sum<float>(parts, result_);
    if (call_.type == ncclFloat16) Sum<__half>(parts, result_);
    if (call_.type == ncclBfloat16) Sum<__nv_bfloat16>(parts, result_);
  }

  void WriteOutput() {
    if (result_.empty()) return;
    Place(call_.out, result_.size());
    const DeviceAccess access;
    std::memcpy(call_.out, result_.data(), result_.size());
  }

  bool AdvancePair() {
    const bool sends = call_.op == Op::kSend;
    waits_for_ = call_.peer;
    auto& channel = sends ? group_.segment_->channels[group_.rank_][call_.peer]
                          : group_.segment_->channels[call_.peer][group_.rank_];
    const uint32_t state = channel.state.load(std::memory_order_acquire);
    if (!sends) {
      if (state != Segment::Channel::kPosted) return false;
      const Collective& theirs = channel.post.call;
      if (theirs.count != call_.count || theirs.type != call_.type) {
        Fail("NCCL: rank {} is in {} from rank {}, which is in {}", group_.rank_, Describe(call_),
             call_.peer, Describe(theirs));
      }
      result_.resize(bytes_);
      Read(call_.peer, channel.post, bytes_, result_.data());
      WriteOutput();
      channel.state.store(Segment::Channel::kTaken, std::memory_order_release);
      return true;
    }
    if (phase_ == 0 && state == Segment::Channel::kFree) {
      channel.post = {call_, Place(call_.in, bytes_)};
      channel.state.store(Segment::Channel::kPosted, std::memory_order_release);
      phase_ = 1;
    } else if (phase_ == 1 && state == Segment::Channel::kTaken) {
      channel.state.store(Segment::Channel::kFree, std::memory_order_release);
      return true;
    }
    return false;
  }

  void CheckPatience() {
    const Clock::time_point now = Clock::now();
    if (blocked_since_ == Clock::time_point{}) blocked_since_ = now;
    const int limit = GetOptions().collective_seconds;
    if (now - blocked_since_ < std::chrono::seconds(limit)) return;
    Fail("NCCL: rank {} waits {} s in {} for rank {}, which began {} collectives", group_.rank_,
         limit, Describe(call_), waits_for_, group_.segment_->cells[waits_for_].posted.load());
  }

  Group& group_;
  const Collective call_;
  size_t bytes_ = 0;
  int phase_ = 0;
  uint64_t sequence_ = 0;
  int waits_for_ = 0;
  std::vector<char> result_;
  Clock::time_point blocked_since_;
};

class Group::Run {
 public:
  Run(std::shared_ptr<Group> group, const std::vector<Collective>& calls)
      : group_(std::move(group)) {
    for (const Collective& call : calls) transfers_.emplace_back(*group_, call);
  }

  Step operator()() {
    bool collective_before = false;
    Step result = Step::kBlocked;
    for (auto it = transfers_.begin(); it != transfers_.end() && !group_->aborted_;) {
      const bool must_wait = it->is_collective() && collective_before;
      collective_before = collective_before || it->is_collective();
      const Step step = must_wait ? Step::kBlocked : it->Advance();
      if (step != Step::kBlocked) result = Step::kMore;
      it = step == Step::kDone ? transfers_.erase(it) : std::next(it);
    }
    return transfers_.empty() || group_->aborted_ ? Step::kDone : result;
  }

 private:
  const std::shared_ptr<Group> group_;
  std::list<Transfer> transfers_;
};

Stepper Group::Begin(std::shared_ptr<Group> group, std::vector<Collective> calls) {
  return [run = std::make_shared<Run>(std::move(group), calls)] { return (*run)(); };
}

}  // namespace tandem::emulation
