// Nodes of an automaton that no token can tell apart: a mask that was found for one is that of all.
// A repetition of up to n characters is laid out n times, and all but its end looks the same to a
// token.
#pragma once

#include <bitset>
#include <cstdint>
#include <vector>

#include "common/grammar/automaton.h"

namespace tandem::grammar {

// [nodes] from which a token may go on outside of the node's rule: it enters another there, or
// ends; but the end of a root rule that is not entered again is the end of the reply.
std::vector<bool> LeavingNodes(const Automaton& automaton);

// [nodes] bytes that may follow where a node is left: of the rules that it enters, and where it
// ends its rule, of all that may follow that one. A superset of what follows on any one stack.
std::vector<std::bitset<256>> BytesBehind(const Automaton& automaton,
                                          const std::vector<bool>& leaving);

// [nodes] of classes 0, 1, 2, ... Nodes of one class read the same strings of up to `depth` bytes
// without leaving their rule, and each of these leads them to nodes of which either none is
// `leaving`, or which are one and the same. Time: near-linear in the nodes unless nearly every byte
// of depth tells many apart.
std::vector<int32_t> NodeClasses(const std::vector<Node>& nodes, const std::vector<bool>& leaving,
                                 int depth);

}  // namespace tandem::grammar
