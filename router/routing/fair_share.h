// Who has had how much: virtual-time fair queueing between clients (API keys), in prompt tokens
// that groups compute for them.
//
// Virtual time passes as fast as an equal share of what is computed. What a client sends starts at
// the end of what it sent before, or now if that is over; how far its end lies ahead of now is its
// lead. So a client that was silent neither saves up nor owes anything, one that sends less than a
// share leads by little more than what it has in flight, and one that floods waits for itself only.
// A lead is never more than what the client used lately: a flood is forgiven soon after it ends.
//
// How many shares there are: (sum of use)^2 / sum of use^2, which does not count those that hardly
// use anything.
//
// Thread: the routing thread. Memory: clients seen within the last seconds.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "common/ids.h"

namespace tandem::routing {

class FairShare {
 public:
  // A request of `client` came and none of its requests waits: what it sends now starts now. While
  // one waits it keeps its place, so that others cannot pass it for ever.
  void Join(uint64_t client, Nanos now);
  // `tokens` of `client` were sent.
  void Charge(uint64_t client, int32_t tokens, Nanos now);
  // So many of those sent, of any client, are computed.
  void Served(int32_t tokens) { now_ += tokens / shares_; }

  // Virtual time at which its next request starts: the least goes first.
  double Start(uint64_t client) const;
  // Tokens that it has had beyond its share; 0 for one that is alone.
  double Lead(uint64_t client) const;

  int num_clients() const { return static_cast<int>(clients_.size()); }  // seen lately

 private:
  struct Client {
    double finish = 0;  // virtual
    double used = 0;    // tokens, decaying, as of `at`
    Nanos at = 0;
  };
  void CountShares(Nanos now);

  std::unordered_map<uint64_t, Client> clients_;
  double now_ = 0;  // virtual
  double shares_ = 1;
  Nanos counted_at_ = 0;
};

}  // namespace tandem::routing
