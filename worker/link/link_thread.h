// The thread that owns the sockets of a process's RouterLinks: of one, or of the many groups that a
// process simulates. With it goes the ZeroMQ context, so 64 groups are three threads and not 192.
//
// It calls its clients, one after the other, when their sockets can be read, when the time they
// asked for has come, or when they were woken. It ends once CloseWhenEmpty was called and the last
// client is gone; what these sent then leaves within their sockets' linger.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "common/ids.h"
#include "common/mutex.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

class LinkThread {
 public:
  // A ZeroMQ socket to be waited for, and whether until it can be written too.
  struct Wanted {
    void* socket = nullptr;
    bool writable = false;
  };

  // Called on the link's thread, but for the constructor and what Wake promises.
  class Client {
   public:
    virtual ~Client() = default;
    // Appends the sockets to wait for; returns when Turn is due by itself.
    virtual Nanos Want(std::vector<Wanted>& sockets, Nanos now) = 0;
    // Does what there is to do. False: its sockets are closed and it is never called again.
    virtual bool Turn() = 0;

   private:
    friend class LinkThread;
    std::atomic<bool> woken_{false};
  };

  LinkThread();
  ~LinkThread();  // REQUIRES: no client is left, or ever will be

  void* context() { return context_; }

  // Any thread. `client` stays until its Turn returns false; WaitGone waits for that.
  void Add(Client& client);
  void WaitGone(const Client& client);

  // Any thread: Turn of `client` is called soon.
  void Wake(Client& client);

  // Any thread. `until`: MonotonicNow() at which WaitEnded gives up.
  void CloseWhenEmpty();
  void WaitEnded(Nanos until);

 private:
  struct Entry {
    Client* client = nullptr;
    size_t first_socket = 0, num_sockets = 0;
    Nanos due = 0;
  };

  void Run();
  bool TakeChanges();  // false: nobody is left, and nobody will come
  void WaitForWork();
  void TurnAll();
  void Forget(const Client& client);
  void Ring();

  void* context_;
  UniqueFd wake_;
  std::vector<Entry> entries_;  // link's thread
  std::vector<Wanted> wanted_;
  struct PollItems;
  std::unique_ptr<PollItems> items_;  // of wake_, then of wanted_

  Mutex mutex_;
  CondVar changed_;
  std::vector<Client*> added_ TANDEM_GUARDED_BY(mutex_);
  std::vector<const Client*> members_ TANDEM_GUARDED_BY(mutex_);
  bool closing_ TANDEM_GUARDED_BY(mutex_) = false;
  bool ended_ TANDEM_GUARDED_BY(mutex_) = false;
  std::atomic<bool> rung_{false};
  std::thread thread_;  // last: uses the others
};

}  // namespace tandem::link
