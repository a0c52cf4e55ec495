# frozen_string_literal: true

# How often a node that dies at boot is forked in its first minute.

require_relative "support"

SECONDS = Bench.times(60, 3)

forks = IO.popen([RbConfig.ruby, "-rswarm_native", "-e", <<~RUBY], &:read).to_i
  SwarmNative.logger = nil
  swarm = SwarmNative::Supervisor.new(nodes: 1)
  forks = 0
  swarm.on(:node_started) { forks += 1 }
  Thread.new { sleep #{SECONDS}; swarm.stop }
  swarm.run { exit!(1) }
  puts forks
RUBY
Bench.report("crash-loop", "forks in #{SECONDS} s", forks, {}, goal: 10)
