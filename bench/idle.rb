# frozen_string_literal: true

# How often a supervisor that has nothing to do is switched to, against a Ruby process that sleeps.

require_relative "support"

SECONDS = Bench.times(10, 1)

[4, Bench.times(100, 10)].each do |nodes|
  # Nodes that report now and then would be something to do.
  swarm = Bench.ruby(<<~RUBY, "-rswarm_native")
    SwarmNative.logger = nil
    supervisor = SwarmNative::Supervisor.new(nodes: #{nodes}, report: :manual, report_timeout: 3600)
    ready = 0
    supervisor.on(:node_ready) { puts "ready" if (ready += 1) == #{nodes} }
    trap("USR1") { supervisor.stop }
    supervisor.run { |node| node.ready; node.wait }
  RUBY
  sleeper = Bench.ruby("puts 'ready'; sleep")
  begin
    [swarm, sleeper].each { |process| Bench.line(process) }
    # The start is over once nothing has happened for a second.
    20.times { break if Bench.switches_while(1, swarm.pid) == [0] }
    ours, = Bench.switches_while(SECONDS, swarm.pid)
    theirs, = Bench.switches_while(SECONDS, sleeper.pid)
    Bench.report("idle supervisor of #{nodes} nodes, #{SECONDS} s", "context switches", ours,
                 { "Ruby that sleeps" => theirs }, goal: 0)
  ensure
    Process.kill(:TERM, swarm.pid)
    Process.kill(:KILL, sleeper.pid)
    [swarm, sleeper].each(&:close)
  end
end
