// Who has had how much: start-time fair queueing between clients (API keys), in prompt tokens that
// groups compute for them.
//
// Each client has a virtual finish time; what it sends next starts at that or at the virtual time
// of the pool, which is where the one sent last began. The least start goes first. So a client
// that was silent neither saves up nor owes anything, and one that floods waits for itself only.
//
// Thread: the routing thread. Memory: clients seen within the last seconds.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "common/ids.h"

namespace tandem::routing {

class FairShare {
 public:
  // `tokens` of `client` were sent.
  void Charge(uint64_t client, int32_t tokens, Nanos now);

  // Virtual time at which the client's next request would start.
  double Start(uint64_t client) const;

  // The client has used more than the mean of all that were active lately: when groups are busy it
  // gives way. False for one that is alone.
  bool Exceeds(uint64_t client, Nanos now) const;

  int num_active() const { return static_cast<int>(clients_.size()); }

 private:
  struct Client {
    double finish = 0;  // virtual
    double used = 0;    // tokens, decaying, as of `at`
    Nanos at = 0;
  };
  void Forget(Nanos now);

  std::unordered_map<uint64_t, Client> clients_;
  double now_ = 0;   // virtual
  double used_ = 0;  // of all, decaying, as of `used_at_`
  Nanos used_at_ = 0;
  Nanos forgot_at_ = 0;
};

}  // namespace tandem::routing
