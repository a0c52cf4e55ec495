# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "with limits" do
  it "replaces a node over its memory_limit, in order, and says how much it was" do
    result = run_swarm(<<~'RUBY', deadline: 30)
      swarm = supervisor(memory_limit: 200 * 1024 * 1024, memory_interval: 0.1)
      told = record(swarm)
      thread = in_background(swarm) do |node|
        node.ready
        hoard = "x" * (300 * 1024 * 1024) unless File.exist?("hoarded")
        File.write("hoarded", "")
        node.wait until node.stopping?
        File.write("stopped in order", hoard.to_s.size.to_s)
      end
      first = ready_pid(swarm)
      ready_pid(swarm, first)
      stopping = told.find { |event| event.name == :node_stopping }
      exited = told.find { |event| event.name == :node_exited }
      puts stopping.reason, stopping.memory > 200 * 1024 * 1024, stopping.to_s[/told to stop.*/].sub(/\d+/, "N")
      puts exited.reason, exited.exit_status.success?, exited.restart_in, File.exist?("stopped in order")
      wait_until(5) { swarm.nodes[0].memory }
      puts swarm.nodes[0].memory < 200 * 1024 * 1024
      swarm.stop
      thread.join
    RUBY
    expect(result.out).to eq("memory_limit\ntrue\ntold to stop: memory_limit, N MiB\nmemory_limit\ntrue\n0.0\ntrue\ntrue\n")
  end

  it "does not count against a node what it shares with its siblings, unless the policy says so" do
    program = <<~'RUBY'
      SHARED = "x" * (200 * 1024 * 1024)
      swarm = supervisor(nodes: 3, memory_limit: 150 * 1024 * 1024, memory_interval: 0.1, memory_metric: METRIC)
      told = record(swarm)
      thread = in_background(swarm)
      all_ready(swarm)
      wait_until(10) { swarm.nodes.all?(&:memory) || told.any? { |event| event.reason == "memory_limit" } }
      swarm.stop
      thread.join
      puts told.count { |event| event.name == :node_stopping && event.reason == "memory_limit" }.positive?
    RUBY
    expect(run_swarm("METRIC = :pss\n#{program}", deadline: 30).out).to eq("false\n")
    expect(run_swarm("METRIC = :rss\n#{program}", deadline: 30).out).to eq("true\n")
  end

  it "replaces a node that has lived for max_lifetime" do
    result = run_swarm(<<~'RUBY', deadline: 30)
      swarm = supervisor(nodes: 2, max_lifetime: 1)
      told = record(swarm)
      thread = in_background(swarm)
      wait_until(20) { swarm.nodes.all? { |node| node.restarts >= 1 } }
      swarm.stop
      thread.join
      ends = told.select { |event| event.name == :node_exited }.first(2)
      puts ends.map(&:reason).uniq.inspect, ends.all? { |event| event.duration >= 0.9 }
    RUBY
    expect(result.out).to eq(%(["max_lifetime"]\ntrue\n))
  end

  it "says that a rolling restart waits for a slot whose nodes do not get ready, and goes on once it is" do
    result = run_swarm(<<~'RUBY', deadline: 30)
      swarm = supervisor(nodes: 2, settle: 0, backoff_min: 0.01, backoff_max: 0.02)
      told = record(swarm)
      count = ->(name) { told.count { |event| event.name == name } }
      thread = in_background(swarm) do |node|
        exit!(9) if File.exist?("broken")
        WORK.call(node)
      end
      all_ready(swarm)
      File.write("broken", "")
      swarm.restart
      wait_until(10) { count[:error] == 1 }
      swarm.restart
      wait_until(10) { count[:node_exited] > 5 }
      waits = told.select { |event| event.name == :replacement_waits }
      puts waits.size, waits[0].to_s.sub(waits[0].pid.to_s, "N"), waits[0].pid == swarm.nodes[1].pid
      puts count[:restarted]
      File.delete("broken")
      wait_until(10) { count[:restarted] == 1 }
      swarm.stop
      thread.join
      puts count[:replacement_waits], told.index { |event| event.name == :restarted } > told.rindex { |event| event.name == :node_ready }
    RUBY
    expect(result.out).to eq(<<~TEXT)
      1
      node 1 (pid N) waits to be replaced (restart): node 0 has to be ready first, and does not get ready
      true
      0
      1
      true
    TEXT
  end

  it "gives nodes their niceness and their place before the OOM killer" do
    result = run_swarm(<<~'RUBY')
      before = Process.getpriority(Process::PRIO_PROCESS, 0)
      swarm = supervisor(worker_niceness: 7, oom_score_adj: 300)
      swarm.on(:node_ready) { swarm.stop }
      swarm.run do |node|
        puts Process.getpriority(Process::PRIO_PROCESS, 0), File.read("/proc/self/oom_score_adj")
        WORK.call(node)
      end
      puts Process.getpriority(Process::PRIO_PROCESS, 0) == before
    RUBY
    expect(result.out).to eq("7\n300\ntrue\n")
  end

  it "tells in the event what was raised in the node, in a hook or in its work, with the backtrace" do
    result = run_swarm(<<~'RUBY')
      [true, false].each do |hook|
        swarm = supervisor
        swarm.after_fork { raise ArgumentError, "broken hook\nwith two lines" } if hook
        swarm.on_node_exit do |event|
          puts event.message.lines.first(2), event.message.lines.any? { |line| line.include?("example.rb:") }, event.to_s[/crashed.*/]
          swarm.stop
        end
        swarm.run { raise KeyError, "broken work" }
      end
    RUBY
    lines = result.out.lines(chomp: true)
    expect(lines.grep(/\Aexample.rb:\d+:in .*: broken hook \(ArgumentError\)\z/).size).to eq(1)
    expect(lines.grep(/\Acrashed \(exit 1\), replaced in .*; example.rb:\d+:in .*: broken hook/).size).to eq(1)
    expect(lines.grep(/\Acrashed \(exit 1\), replaced in .*; example.rb:\d+:in .*: broken work/).size).to eq(1)
    expect(lines).to include("with two lines")
    expect(lines.count("true")).to eq(2)
  end

  it "fails a boot whose niceness may not be set, and says so" do
    skip "root may set any niceness, and only root can become somebody else" unless Process.uid.zero?

    result = run_swarm(<<~'RUBY')
      Process::Sys.setuid(65_534)
      swarm = supervisor(worker_niceness: Process.getpriority(Process::PRIO_PROCESS, 0) - 1)
      swarm.on_node_exit { |event| puts event.message.lines.first[/Permission denied.*/]; swarm.stop }
      swarm.run(&WORK)
    RUBY
    expect(result.out)
      .to eq("Permission denied - setting worker_niceness or oom_score_adj, which needs rights to lower them (Errno::EACCES)\n")
  end
end

RSpec.describe SwarmNative::Supervisor, "asks why a node hangs" do
  def diagnosis_of(work, settings = "report_timeout: 0.5, shutdown_timeout: 1")
    run_swarm(<<~RUBY, deadline: 30).out
      swarm = supervisor(#{settings})
      swarm.on(:node_unhealthy) { |event| puts "unhealthy: " + event.diagnosis.lines.first }
      swarm.on(:node_exited) { |event| puts event.diagnosis; swarm.stop }
      swarm.on(:node_ready) { |event| #{work.include?("FREEZE") ? "Process.kill(:STOP, event.pid)" : ""} }
      begin
        swarm.run { |node| node.ready; #{work} }
      rescue SwarmNative::ForcefulShutdown
        nil
      end
    RUBY
  end

  it "and sees a frozen node" do
    expect(diagnosis_of("FREEZE = 1; node.wait until node.stopping?")).to start_with("unhealthy: frozen (SIGSTOP)\n")
  end

  it "and sees one that is busy in C, by its threads" do
    out = diagnosis_of("hold_the_gvl")
    expect(out).to start_with("unhealthy: busy on the processor\n")
    expect(out).to match(/^thread \d+ \S+: state R, \d+\.\d\d s of CPU/)
    expect(out).to match(/^thread \d+ orphan-watch: state S/)
  end

  it "and gets the backtraces of one whose VM still answers" do
    out = diagnosis_of(<<~'RUBY', "report: :manual, report_timeout: 0.5, shutdown_timeout: 1")
      def wait_for_a_lock(lock) = lock.lock
      trap("TERM") {}
      lock = Mutex.new
      Thread.new { lock.lock; sleep }
      Thread.pass until lock.locked?
      wait_for_a_lock(lock)
    RUBY
    expect(out).to match(/^#<Thread:.*>\n(  .*\n)*?.*wait_for_a_lock/)
    expect(out).to start_with("unhealthy: waiting for a lock\n").or start_with("unhealthy: waiting\n")
  end

  it "and asks one that does not stop before it kills it" do
    result = run_swarm(<<~'RUBY', deadline: 30)
      swarm = supervisor(shutdown_timeout: 1, diagnose_timeout: 0.5)
      swarm.on(:node_killed) { |event| puts event.diagnosis[/^.*deaf_loop.*$/] }
      swarm.on(:node_ready) { swarm.stop }
      def deaf_loop = loop { sleep 0.01 }
      begin
        swarm.run { |node| trap("TERM") {}; node.ready; deaf_loop }
      rescue SwarmNative::ForcefulShutdown
        puts "killed"
      end
    RUBY
    expect(result.out).to match(/deaf_loop.*\nkilled\n/)
  end
end
