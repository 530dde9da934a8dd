// The rows, each a function that prints its own lines.
#pragma once

#include "tests/bench/system.h"

namespace signet::bench {

void Limits();                      // raw OpenSSL sign and verify, CSR check, socket ping-pong: what nothing can beat
void MintX509(System& system);          // P1
void BatchX509AndJwt(System& system);   // P2, P3
void JwtCacheHit(System& system);       // P4
void FirstX509(System& system);         // P5, P6
void IdleStreams(System& system);       // P7, P8
void Propagation(System& system);       // P9, P10
void CreateAndList(System& system);     // P11, P12, P13
void ListAndCount(System& system);      // P13 alone
void Joins(System& system);             // P14
void IdleAgents(System& system);        // P15
void Idle(System& system);              // P16
void Tokens(System& system);            // P21 to P24

}  // namespace signet::bench
