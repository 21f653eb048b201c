// A GroupLink on a thread of its own, for tests without an I/O loop.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/mutex.h"
#include "router/link/group_link.h"

namespace tandem::testing {

// Any thread may send; the listener is called on the link's.
class RunningLink final : public routing::GroupPort {
 public:
  RunningLink(link::GroupLinkOptions options, routing::GroupListener& listener) {
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    TANDEM_CHECK(wake_ >= 0) << "no descriptors left";
    options.again = [this] { Wake(); };
    auto opened = link::GroupLink::Open(options, listener);
    TANDEM_CHECK(opened.ok()) << Message(opened.status());
    link_ = std::move(opened).value();
    thread_ = std::thread([this] { Run(); });
  }
  ~RunningLink() override {
    {
      MutexLock lock(mutex_);
      stop_ = true;
    }
    Wake();
    thread_.join();
    link_.reset();
    ::close(wake_);
  }

  void Send(GroupId group, routing::GenerateRequest request) override {
    Post([this, group, request = std::move(request)] { link_->Send(group, request); });
  }
  void Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index) override {
    Post([=, this] { link_->Cancel(group, request, attempt, index); });
  }

  const std::string& endpoint() const { return link_->endpoint(); }
  Nonce nonce() const { return link_->nonce(); }
  const link::GroupLink::Stats& stats() const { return link_->stats(); }

 private:
  void Wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake_, &one, sizeof(one));
  }
  void Post(std::function<void()> command) {
    MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
    Wake();
  }
  void Run() {
    for (;;) {
      pollfd fds[2] = {{wake_, POLLIN, 0}, {link_->fd(), POLLIN, 0}};
      ::poll(fds, 2, static_cast<int>(link::GroupLink::kTurnInterval / kMillisecond));
      uint64_t count;
      [[maybe_unused]] const ssize_t n = ::read(wake_, &count, sizeof(count));
      std::vector<std::function<void()>> commands;
      {
        MutexLock lock(mutex_);
        if (stop_) return;
        commands.swap(commands_);
      }
      for (const auto& command : commands) command();
      link_->Turn();
    }
  }

  int wake_ = -1;
  std::unique_ptr<link::GroupLink> link_;
  Mutex mutex_;
  std::vector<std::function<void()>> commands_ TANDEM_GUARDED_BY(mutex_);
  bool stop_ TANDEM_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tandem::testing
