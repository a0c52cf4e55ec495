# frozen_string_literal: true

require "pty"
require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "hears" do
  %w[TERM INT QUIT].each do |signal|
    it "#{signal}: stops the swarm and ends with 0" do
      result = run_swarm(<<~RUBY)
        swarm = supervisor(nodes: 2)
        swarm.on(:node_ready) { |event| Process.kill(:#{signal}, Process.pid) if event.node_id == 1 }
        swarm.run(&WORK)
        puts children
      RUBY
      expect(result.out).to eq("0\n")
      expect(result.status.exitstatus).to eq(0)
    end
  end

  it "two TERMs within a second as one, and kills at a later one" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(shutdown_timeout: 30)
      told = record(swarm)
      swarm.on(:node_ready) { Process.kill(:TERM, Process.pid); Process.kill(:INT, Process.pid) }
      swarm.on(:node_stopping) { Thread.new { sleep 1.1; Process.kill(:TERM, Process.pid) } }
      begin
        swarm.run { |node| %w[TERM INT].each { |name| trap(name) {} }; node.ready; sleep }
      rescue SwarmNative::ForcefulShutdown => e
        puts e.message
      end
      took = told.last.time - told.find { |event| event.name == :node_stopping }.time
      puts told.map(&:name).tally.values_at(:node_stopping, :node_killed).inspect, (1.0..5.0).cover?(took)
    RUBY
    expect(result.out).to eq("nodes 0 did not stop in time and were killed\n[1, 1]\ntrue\n")
  end

  it "Ctrl-C in a terminal, which reaches the whole group: nobody is forked for nothing" do
    program = <<~'RUBY'
      require "swarm_native"
      $stdout.sync = true
      SwarmNative.logger = nil
      swarm = SwarmNative::Supervisor.new(nodes: 3, stable_after: 0)
      starts = 0
      ready = 0
      swarm.on(:node_started) { starts += 1 }
      swarm.on(:node_ready) { puts "READY" if (ready += 1) == 3 }
      swarm.run { |node| node.ready; node.wait until node.stopping? }
      puts "STARTS #{starts}"
    RUBY
    load_path = $LOAD_PATH.flat_map { |path| ["-I", path] }
    3.times do
      reader, writer, pid = PTY.spawn(RbConfig.ruby, *load_path, "-e", program)
      wait_until(10) { reader.gets&.include?("READY") }
      writer.write("\u0003")
      rest = +""
      begin
        wait_until(10) { (rest << reader.readpartial(1000)).include?("STARTS") && rest }
      rescue Errno::EIO
        nil
      end
      Process.wait(pid)
      expect(rest).to include("STARTS 3")
      expect($?.exitstatus).to eq(0)
    end
  end

  it "a TERM that reaches the whole process group, ten times: nobody is forked for nothing, exit code 0" do
    10.times do
      result = run_swarm(<<~'RUBY')
        swarm = supervisor(nodes: 3)
        starts = ready = 0
        swarm.on(:node_started) { starts += 1 }
        swarm.on(:node_ready) { Process.kill(:TERM, 0) if (ready += 1) == 3 }
        swarm.run(&WORK)
        puts starts
      RUBY
      expect(result.out).to eq("3\n")
      expect(result.status.exitstatus).to eq(0)
    end
  end

  it "TSTP: nodes are told to be quiet, and nothing is restarted" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 2)
      told = record(swarm)
      thread = in_background(swarm) do |node|
        node.ready
        node.wait until node.quiet? || node.stopping?
        $stdout.syswrite("quiet\n") if node.quiet?
        node.id.zero? ? node.wait : exit(0)
      end
      all_ready(swarm)
      Process.kill(:TSTP, Process.pid)
      wait_until(10) { swarm.nodes[1].state == :idle }
      puts swarm.nodes[0].state
      swarm.stop
      thread.join
      puts told.count { |event| event.name == :node_started }, told.any? { |event| event.name == :quieting }
    RUBY
    expect(result.out).to eq("quiet\nquiet\nready\n2\ntrue\n")
  end

  it "HUP: replaces its nodes one after the other" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 3)
      told = record(swarm)
      thread = in_background(swarm)
      all_ready(swarm)
      old = swarm.nodes.map(&:pid)
      Process.kill(:HUP, Process.pid)
      wait_until(10) { told.any? { |event| event.name == :restarted } }
      puts (swarm.nodes.map(&:pid) & old).size, swarm.nodes.map(&:restarts).inspect
      # From one to the next: the node stops only once the replacement of the one before is ready.
      order = told.drop_while { |event| event.name != :restarting }.select { |event| %i[node_stopping node_ready].include?(event.name) }
      puts order.map { |event| [event.name, event.node_id] } == (0..2).flat_map { |id| [[:node_stopping, id], [:node_ready, id]] }
      swarm.stop
      thread.join
    RUBY
    expect(result.out).to eq("0\n[1, 1, 1]\ntrue\n")
  end

  it "TTIN, and `signal`: passes it on to the nodes" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 2)
      thread = in_background(swarm) do |node|
        trap("TTIN") { $stdout.syswrite("TTIN\n") }
        trap("USR1") { $stdout.syswrite("USR1\n") }
        WORK.call(node)
      end
      all_ready(swarm)
      Process.kill(:TTIN, Process.pid)
      swarm.signal(:USR1)
      wait_until(10) { File.size("stdout") >= 20 }
      swarm.stop
      thread.join
    RUBY
    expect(result.out.lines.tally).to eq("TTIN\n" => 2, "USR1\n" => 2)
  end

  it "a TERM at any moment of a node's boot: the node stops in order" do
    result = run_swarm(<<~'RUBY', deadline: 60)
      swarm = supervisor(settle: 0, backoff_min: 0.001, backoff_max: 0.001, crash_loop_limit: 1_000_000, shutdown_timeout: 30)
      told = record(swarm)
      exits = 0
      # From the first microsecond after the fork on, a little later each time.
      swarm.on(:node_started) do |event|
        Thread.new do
          deadline = now + (exits % 40) * 0.00005
          nil while now < deadline
          SwarmNative::Pidfd.new(event.pid).signal(:TERM)
        rescue Errno::ESRCH
          nil
        end
      end
      swarm.on(:node_exited) { swarm.stop if (exits += 1) == 200 }
      swarm.run(&WORK)
      ends = told.select { |event| event.name == :node_exited }
      puts ends.map { |event| event.exit_status.to_s[/exit.*|SIG\w+/] }.tally.inspect
    RUBY
    expect(result.out).to match(/\A\{"exit 0" ?=> ?20[01]\}\n\z/)
  end

  it "a TERM at any moment of a restart: the swarm stops, within its time, and nobody is left" do
    result = run_swarm(<<~'RUBY', deadline: 60)
      40.times do |round|
        swarm = supervisor(nodes: 2, settle: 0)
        thread = in_background(swarm) { |node| node.ready }
        wait_until(10) { swarm.nodes.sum(&:restarts) > round % 5 }
        Process.kill(:TERM, Process.pid)
        returned = thread.value
        raise returned if returned.is_a?(Exception)
      end
      puts "stopped", children
    RUBY
    expect(result.out).to eq("stopped\n0\n")
  end

  it "nothing in a node that was meant for the supervisor at the moment of the fork" do
    result = run_swarm(<<~'RUBY', deadline: 30)
      # Signals of the process are taken in by the main thread, while the supervisor forks in another: at the fork they
      # lie in Ruby's own buffer, which the child gets a copy of.
      hits = File.open("hits", "a").tap { |file| file.sync = true }
      trap("HUP") { hits.syswrite("#{Process.pid}\n") }
      module Noisy
        def _fork
          Process.kill(:HUP, Process.pid)
          super
        end
      end
      Process.singleton_class.prepend(Noisy)
      swarm = supervisor(nodes: 2)
      rounds = 0
      swarm.on(:node_ready) { swarm.stop if (rounds += 1) == 40 }
      in_background(swarm).join
      puts rounds >= 40, File.readlines("hits", chomp: true).uniq == [Process.pid.to_s]
    RUBY
    expect(result.out).to eq("true\ntrue\n")
  end

  it "what a user had trapped as well, in the supervisor and in nodes, and puts it back" do
    result = run_swarm(<<~'RUBY')
      trap("TERM") { $stdout.syswrite("user's TERM in the #{Process.pid == MAIN ? "supervisor" : "node"}\n") }
      trap("TSTP", "IGNORE")
      MAIN = Process.pid
      swarm = supervisor
      swarm.on(:node_ready) { Process.kill(:TERM, MAIN) }
      swarm.run(&WORK)
      puts %w[TERM INT QUIT TSTP HUP].map { |name| trap(name, "DEFAULT") }.map { |found| found.is_a?(Proc) ? "Proc" : found }.inspect
    RUBY
    expect(result.out.lines.first(2).sort).to eq(["user's TERM in the node\n", "user's TERM in the supervisor\n"])
    expect(result.out.lines.last).to eq(%(["Proc", "DEFAULT", "DEFAULT", "IGNORE", "DEFAULT"]\n))
  end

  it "no HUP when it was started with nohup" do
    result = run_swarm(<<~'RUBY')
      trap("HUP", "IGNORE")
      swarm = supervisor
      thread = in_background(swarm)
      pid = ready_pid(swarm)
      Process.kill(:HUP, Process.pid)
      Process.kill(:TERM, Process.pid)
      thread.join
      puts swarm.nodes[0].restarts
    RUBY
    expect(result.out).to eq("0\n")
  end
end
