# frozen_string_literal: true

# How long a node outlives a supervisor that was killed with KILL, while every core is busy: a node that waits, one that
# computes in Ruby, and one that holds the GVL in a C call. From the supervisor's end to the node's, as a third process
# sees them. Against the kernel's own PR_SET_PDEATHSIG, which would not do: it is tied to the thread that forked.

require "swarm_native"
require_relative "support"

# Forks a supervisor for each line that it reads, which prints its pid and its node's once the node is at work.
ZYGOTE = <<~'RUBY'
  require "fiddle"
  SwarmNative.logger = nil
  LIBC = Fiddle.dlopen(nil)
  # It is called with the GVL, and keeps it for a minute.
  SLEEP = Fiddle::Function.new(LIBC["sleep"], [Fiddle::TYPE_INT], Fiddle::TYPE_INT, need_gvl: true)
  PRCTL = Fiddle::Function.new(LIBC["prctl"], [Fiddle::TYPE_INT] + [Fiddle::TYPE_LONG] * 4, Fiddle::TYPE_INT)

  def work(how)
    puts "#{Process.ppid} #{Process.pid}"
    case how
    when "waits" then sleep
    when "computes" then loop {}
    when "holds the GVL in C" then SLEEP.call(60)
    end
  end

  def swarm(how)
    SwarmNative::Supervisor.new(nodes: 1, warmup: false).run { work(how) }
  end

  def bound_by_the_kernel(how)
    Process.fork { PRCTL.call(1, 9, 0, 0, 0) && work(how) }
    sleep
  end

  while (line = $stdin.gets)
    way, how = line.chomp.split(":")
    Process.wait(Process.fork { way == "ours" ? swarm(how) : bound_by_the_kernel(how) })
  end
RUBY

# Milliseconds from the end of the supervisor to that of its node.
def self.outlives(zygote, way, how)
  zygote.puts("#{way}:#{how}")
  supervisor, node = Bench.line(zygote).split.map { |pid| SwarmNative::Pidfd.new(pid.to_i) }
  supervisor.signal("KILL")
  IO.select([supervisor])
  ended = Bench.now
  IO.select([node], nil, nil, 10) or raise "the node has not ended within 10 s"
  (Bench.now - ended) * 1_000
ensure
  [node, supervisor].each { |process| process&.close }
end

Bench.observe_at_once
zygote = Bench.ruby("Process.setpriority(Process::PRIO_PROCESS, 0, #{Bench::USUAL_PRIORITY})\n#{ZYGOTE}", "-rswarm_native")
[["waits", 0], ["computes", 1], ["holds the GVL in C", 0]].each do |how, busy|
  Bench.with_busy_cores(busy) do
    samples = { "ours" => [], "PR_SET_PDEATHSIG" => [] }
    Bench.times(300, 2).times { samples.each { |way, times| times << outlives(zygote, way, how) } }
    Bench.report_samples("orphan that #{how}", "ms", samples.delete("ours"), samples,
                         { 50 => { goal: 2.0 }, 99 => { goal: 10.0 } })
  end
end
zygote.close
