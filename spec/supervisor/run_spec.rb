# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "#run" do
  it "runs the block in so many processes and returns once all have stopped" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 3)
      ready = []
      swarm.on(:node_ready) { |event| ready << event.node_id; swarm.stop if ready.size == 3 }
      returned = swarm.run do |node|
        $stdout.syswrite("node #{node.id} #{node.pid == Process.pid}\n")
        WORK.call(node)
      end
      puts returned.equal?(swarm), ready.sort.inspect, children
    RUBY
    expect(result).to be_success
    expect(result.out.lines.first(3).sort).to eq(["node 0 true\n", "node 1 true\n", "node 2 true\n"])
    expect(result.out.lines.drop(3).join).to eq("true\n[0, 1, 2]\n0\n")
  end

  it "kills a node that does not stop in time and raises, which makes the exit code 2" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(shutdown_timeout: 0.1)
      swarm.on(:node_ready) { swarm.stop }
      swarm.on(:node_killed, :node_exited) { |event| puts "#{event.name} #{event.reason}" }
      swarm.run { |node| trap("TERM") {}; node.ready; sleep }
    RUBY
    expect(result.status.exitstatus).to eq(2)
    expect(result.out).to eq("node_killed stopped\nnode_exited stopped\n")
    expect(result.err).to include("nodes 0 did not stop in time and were killed (SwarmNative::ForcefulShutdown)")
    expect(result.err.scan("ForcefulShutdown").size).to eq(1)
  end

  it "does nothing more than return when it was stopped before it ran" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor
      swarm.stop
      swarm.run { puts "forked" }
      puts "returned"
    RUBY
    expect(result.out).to eq("returned\n")
  end

  it "runs twice in one process" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 2)
      swarm.on(:node_ready) { |event| swarm.stop if event.node_id == 1 }
      2.times { swarm.run(&WORK) }
      puts "twice"
    RUBY
    expect(result.out).to eq("twice\n")
  end

  it "refuses to run twice at once" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor
      thread = in_background(swarm)
      all_ready(swarm)
      begin
        swarm.run(&WORK)
      rescue SwarmNative::Error => e
        puts e.message
      end
      swarm.stop
      thread.join
    RUBY
    expect(result.out).to eq("this supervisor runs already\n")
    expect(result).to be_success
  end

  it "runs two swarms in two threads, which one signal stops" do
    result = run_swarm(<<~'RUBY')
      swarms = [supervisor(nodes: 2), supervisor(nodes: 2)]
      threads = swarms.map { |swarm| in_background(swarm) }
      swarms.each { |swarm| all_ready(swarm) }
      pids = swarms.flat_map { |swarm| swarm.nodes.map(&:pid) }
      Process.kill(:TERM, Process.pid)
      threads.each(&:join)
      puts pids.uniq.size, pids.count { |pid| alive?(pid) }, children
    RUBY
    expect(result.out).to eq("4\n0\n0\n")
  end

  it "goes on with its swarm when the other one in the process has ended" do
    result = run_swarm(<<~'RUBY')
      first, second = supervisor, supervisor
      threads = [first, second].map { |swarm| in_background(swarm) }
      [first, second].each { |swarm| all_ready(swarm) }
      first.stop
      threads.first.join
      pid = ready_pid(second)
      Process.kill(:KILL, pid)
      ready_pid(second, pid)
      Process.kill(:TERM, Process.pid)
      threads.last.join
      puts "stopped"
    RUBY
    expect(result.out).to eq("stopped\n")
  end

  it "leaves no node behind when an exception or Timeout ends it" do
    result = run_swarm(<<~'RUBY')
      require "timeout"
      swarm = supervisor(nodes: 2)
      begin
        Timeout.timeout(0.3) { swarm.run(&WORK) }
      rescue Timeout::Error => e
        puts "#{e.class} #{children}"
      end
      thread = Thread.new { swarm.run(&WORK) }
      thread.report_on_exception = false
      all_ready(swarm)
      thread.raise(ArgumentError, "from elsewhere")
      begin
        thread.join
      rescue ArgumentError => e
        puts "#{e.message} #{children}"
      end
      thread = Thread.new { swarm.run(&WORK) }
      all_ready(swarm)
      thread.kill.join
      puts "killed #{children}"
    RUBY
    expect(result.out).to eq("Timeout::Error 0\nfrom elsewhere 0\nkilled 0\n")
  end

  it "lets timeouts in hooks, listeners and the logger work, and has no thread that they made outlive the process" do
    result = run_swarm(<<~'RUBY')
      require "timeout"
      def timed_out(where)
        Timeout.timeout(0.05) { sleep }
      rescue Timeout::Error
        puts "timeout in a #{where}"
        # An exit waits for every thread that cannot be ended.
        Thread.new { sleep }
      end
      SwarmNative.logger = Object.new.tap do |logger|
        logger.define_singleton_method(:info) { |line| timed_out("logger") if line.include?("ready") }
      end
      swarm = supervisor
      swarm.before_fork { timed_out("hook") }
      swarm.on(:node_ready) do
        timed_out("listener")
        swarm.stop
      end
      swarm.run(&WORK)
      puts "over"
    RUBY
    expect(result.out).to eq("timeout in a hook\ntimeout in a logger\ntimeout in a listener\nover\n"), result.inspect
    expect(result).to be_success
  end

  it "lets in what was raised at its thread before a listener is called, and tells that one of the event afterwards" do
    result = run_swarm(<<~'RUBY')
      # Another thread raises at the moment at which there is something to tell.
      class Interrupted < SwarmNative::Supervisor
        private

        def attend(core, work)
          super(core, work) do
            yield.tap do |todo|
              next if @raised || !todo.is_a?(Hash) || todo[:name] != :node_ready

              @raised = Thread.current
              Thread.handle_interrupt(Object => :never) { Thread.new { @raised.raise(ArgumentError, "from elsewhere") }.join }
            end
          end
        end
      end
      swarm = Interrupted.new(nodes: 1)
      told = record(swarm)
      swarm.on(:error) { swarm.stop }
      begin
        swarm.run(&WORK)
      rescue ArgumentError => e
        puts e.message
      end
      puts told.map(&:name).inspect, children
    RUBY
    told = %i[node_started node_ready stopping node_stopping node_exited stopped]
    expect(result.out).to eq("from elsewhere\n#{told.inspect}\n0\n"), result.inspect
  end

  it "works as PID 1 of a container" do
    skip "a pid namespace needs root" unless Process.uid.zero?

    result = run_ruby(<<~'RUBY', library: "json")
      code = <<~'INNER'
        require "swarm_native"
        SwarmNative.logger = nil
        swarm = SwarmNative::Supervisor.new(nodes: 2, stable_after: 0)
        count = 0
        swarm.on(:node_ready) do |event|
          count += 1
          count == 3 ? Process.kill(:TERM, 1) : (Process.kill(:KILL, event.pid) if count == 2)
        end
        swarm.run { |node| node.ready; node.wait until node.stopping? }
        puts "pid #{Process.pid}, ready #{count} times"
      INNER
      load_path = $LOAD_PATH.flat_map { |path| ["-I", path] }
      system("unshare", "--pid", "--fork", "--kill-child", RbConfig.ruby, *load_path, "-e", code, exception: true)
    RUBY
    expect(result.out).to eq("pid 1, ready 3 times\n")
  end

  it "tells every wrong setting at once, with what is allowed" do
    expect { described_class.new(nodes: 0, report_timeout: "soon", memory: 1) }.to raise_error(
      SwarmNative::ConfigurationError,
      %r{nodes: 0 given, allowed: an Integer from 1 to 10000\n- report_timeout: :soon given.*\n- memory: no such setting}
    )
  end

  it "says what is wrong with a call" do
    swarm = described_class.new
    expect { swarm.run }.to raise_error(ArgumentError, /run needs a block/)
    expect { swarm.on(:node_redy) {} }.to raise_error(ArgumentError, /:node_redy: no such event, allowed: node_started/)
    expect { swarm.on {} }.to raise_error(ArgumentError, /needs the names of events/)
    expect { swarm.scale(0) }.to raise_error(ArgumentError, /nodes: 0 given, allowed: an Integer from 1/)
    expect { swarm.signal("TERMINATE") }.to raise_error(ArgumentError, /"TERMINATE": no such signal/)
    expect { swarm.signal(0) }.to raise_error(ArgumentError, /0: no such signal/)
  end

  it "documents each setting" do
    names = described_class.settings.map(&:first)
    expect(names).to include("nodes", "shutdown_timeout", "stable_after")
    expect(described_class.settings.to_h { |name, default,| [name, default] }).to include("report_interval" => "10.0")
  end
end
