# frozen_string_literal: true

# How long from the SIGSTOP of a ready node to the first Ruby line of its replacement. The timeouts are the user's
# (report_timeout to notice); what is measured is what comes on top of them.

require_relative "support"

REPORT_TIMEOUT = 0.5
REPORT_INTERVAL = 0.1

swarm = Bench.ruby(<<~RUBY, "-rswarm_native")
  SwarmNative.logger = nil
  swarm = SwarmNative::Supervisor.new(nodes: 1, stable_after: 0, report_interval: #{REPORT_INTERVAL},
                                      report_timeout: #{REPORT_TIMEOUT})
  swarm.on(:node_ready) { puts "ready" }
  Thread.new { swarm.stop unless $stdin.read(1) }
  swarm.run do |node|
    puts [Process.clock_gettime(Process::CLOCK_MONOTONIC), node.pid].join(" ")
    node.ready
    node.wait until node.stopping?
  end
RUBY

late = []
begin
  _, pid = Bench.line(swarm).split
  Bench.line(swarm)
  Bench.times(50, 3).times do
    # Its last report was sent at most an interval ago, and what counts is the time since that.
    frozen = Bench.now
    Process.kill(:STOP, pid.to_i)
    born, pid = Bench.line(swarm).split
    late << ((born.to_f - frozen - REPORT_TIMEOUT) * 1_000)
    Bench.line(swarm)
  end
ensure
  swarm.close_write
  swarm.close
end
# Below 0 where the last report was older than the freeze.
Bench.report_samples("hang, on top of report_timeout", "ms", late, {}, { 50 => { goal: 20 }, 99 => { goal: 20 } })
