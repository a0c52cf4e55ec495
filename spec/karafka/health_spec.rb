# frozen_string_literal: true

require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  newest = version == KarafkaApp::VERSIONS.last

  RSpec.describe "the drop-in's watch over nodes, Karafka #{version}", :kafka, :test_gems, karafka: version do
    # The first incarnation of a node does something as soon as it fetches, its replacement does not.
    def once(code)
      <<~RUBY
        Karafka.monitor.subscribe("app.running") do
          first = !File.exist?("done")
          File.write("done", "")
          Thread.new { sleep 0.01 until fetching; #{code} } if first
        end
      RUBY
    end

    # Karafka's supervisor never looks after its nodes, unless a signal wakes it.
    def without_looks = "Karafka::App.config.internal.swarm.supervision_interval = 3_600_000\n"

    # For as long as that.
    def never(seconds, what)
      due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
      wait_until(seconds, "the end of #{seconds} s") do
        expect(yield).to be_falsey, what
        Process.clock_gettime(Process::CLOCK_MONOTONIC) > due
      end
    end

    it "replaces a node killed with SIGKILL at once, and says why it ended" do
      result = run_karafka(without_looks) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, first)
        expect(app.wait_until_fetching(2)).to eq([first, *app.children])
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).to match(/^native\.node_exited \d+ killed .*\(SIGKILL\), replaced at once/)
    end

    it "differs from plain Karafka, which replaces a killed node when it looks next", if: newest do
      result = run_karafka(without_looks, plain: true) do |app|
        killed = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, killed)
        app.wait_for(/^process\.notice_signal #{app.pid} SIGCHLD/)
        never(1, "it was replaced") { app.lines("swarm.manager.before_fork").size > 1 }
        app.signal("CHLD")
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
    end

    # A node that has to report each 1.5 s, or other milliseconds.
    def reporting(timeout = 1_500)
      <<~RUBY
        #{without_looks}
        Karafka::App.config.internal.swarm.node_report_timeout = #{timeout}
        Karafka::App.config.internal.swarm.liveness_interval = 100
      RUBY
    end

    it "replaces a node that does not report at its deadline, not at a later look" do
      result = run_karafka(reporting) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:STOP, first)
        app.wait_for(/^swarm\.manager\.stopping \d+ -1,0$/)
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
      expect(result.out).to match(/^native\.node_exited \d+ hung/)
      expect(result.status.exitstatus).to eq(0)
    end

    it "differs from plain Karafka, which misses no report until it looks next", if: newest do
      result = run_karafka(reporting(300), plain: true) do |app|
        node = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:STOP, node)
        app.wait_for(/^process\.notice_signal #{app.pid} SIGCHLD/)
        never(1, "it was missed") { app.out.include?("swarm.manager.stopping") }
        app.signal("CHLD")
        app.wait_for(/^swarm\.manager\.stopping #{app.pid} -1,0$/)
        Process.kill(:CONT, node)
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
    end

    it "replaces a node that reports a code above 0, with Karafka's event and its status" do
      result = run_karafka(once("Karafka::App.config.swarm.node.unhealthy(7)")) do |app|
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
      expect(result.out).to match(/^swarm\.manager\.stopping #{result.status.pid} 7,0$/)
      expect(result.out).to match(/^native\.node_exited \d+ unhealthy\(7\) .*\(exit 0\)/)
      expect(result.status.exitstatus).to eq(0)
    end

    it "takes a code that is greater than a report can hold for the greatest" do
      result = run_karafka(once("Karafka::App.config.swarm.node.unhealthy(2**40)")) do |app|
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
      expect(result.out).to match(/^swarm\.manager\.stopping #{result.status.pid} 4294967295,0$/)
      expect(result.status.exitstatus).to eq(0)
    end

    it "gives a node's status as Karafka does: what it has reported since it was last asked", if: newest do
      setup = <<~'RUBY'
        %w[node_ready node_unhealthy].each do |name|
          Karafka.monitor.subscribe("swarm_native.#{name}") do |event|
            say "status", event[:node].status, event[:node].status
          end
        end
      RUBY
      result = run_karafka(setup + once("Karafka::App.config.swarm.node.unhealthy(7)")) do |app|
        app.wait_until_fetching(2)
        app.wait_until_ready(2)
        app.signal("TERM")
      end
      expect(result.out.scan(/^status (.*)$/).flatten).to eq(["0 -1", "7 -1", "0 -1"])
    end

    it "tells how each node ended and why, in events and in Karafka's log" do
      setup = <<~'RUBY'
        Karafka.monitor.subscribe("swarm_native.node_exited") do |event|
          node, status = event.payload.values_at(:node, :exit_status)
          ended = [status.termsig.inspect, status.exitstatus.inspect]
          say "ended", event[:pid], node.class, node.id, event[:reason], *ended
        end
      RUBY
      nodes = nil
      result = run_karafka(setup, env: { "APP_LOG" => "1" }) do |app|
        killed = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, killed)
        nodes = app.wait_until_fetching(2)
        app.wait_until_ready(2)
        app.signal("TERM")
      end
      expect(result.out.scan(/^ended (.*)$/).flatten).to eq([
        "#{nodes[0]} SwarmNative::Karafka::Node 0 killed 9 nil",
        "#{nodes[1]} SwarmNative::Karafka::Node 0 stopped nil 0"
      ])
      expect(result.out).to match(/ : node 0 \(pid #{nodes[0]}\) ended after .*: killed \(SIGKILL\), replaced at once$/)
      expect(result.out).to match(/ : node 0 \(pid #{nodes[1]}\) ended after .*: stopped \(exit 0\)/)
    end

    it "kills what does not stop within its time, and ends with exit code 2 and Karafka's error" do
      result = stop_deaf(1_000)
      expect(result.status.exitstatus).to eq(2)
      expect(result.out).to match(/^native\.node_killed \d+ stopped/)
      expect(result.out).to match(/^error\.occurred #{result.status.pid} app\.stopping\.error/)
    end

    # A supervisor that is killed while both its nodes hold the GVL, in C code that never returns.
    def kill_while_gvl_is_held(**options)
      setup = <<~'RUBY'
        Karafka.monitor.subscribe("app.running") do
          Thread.new do
            require "fiddle"
            lock = Fiddle::Function.new(Fiddle.dlopen("libc.so.6")["pthread_mutex_lock"], [Fiddle::TYPE_VOIDP],
                                        Fiddle::TYPE_INT, need_gvl: true)
            mutex = Fiddle::Pointer.malloc(64, Fiddle::RUBY_FREE)
            mutex[0, 64] = "\0" * 64
            lock.call(mutex)
            sleep 0.1 until File.exist?("hold")
            say "holding", Process.pid
            lock.call(mutex)
          end
        end
      RUBY
      run_karafka(setup, nodes: 2, **options) do |app|
        nodes = app.wait_until_fetching(2)
        File.write(File.join(app.process.scratch, "hold"), "")
        wait_until(KarafkaApp::PATIENCE, "both hold the GVL") { app.lines("holding").size == 2 }
        handles = nodes.map { |pid| SwarmNative::Pidfd.new(pid) }
        app.signal("KILL")
        yield handles
      end
    end

    it "takes nodes with it when the supervisor is killed, also ones whose GVL is held" do
      kill_while_gvl_is_held do |handles|
        expect(handles.map { |handle| handle.wait(15) }).not_to include(nil)
      end
    end

    # Only an adopter hears of an orphan's exit code.
    it "has orphans leave with Karafka's exit code for them", if: newest do
      { "nil" => 3, "Karafka::App.config.internal.swarm.orphaned_exit_code = 41" => 41 }.each do |setting, code|
        setup = <<~RUBY
          #{setting}
          require "fiddle"
          prctl = Fiddle::Function.new(Fiddle::Handle::DEFAULT["prctl"], [Fiddle::TYPE_INT] + [Fiddle::TYPE_LONG] * 4,
                                       Fiddle::TYPE_INT)
          prctl.call(36, 1, 0, 0, 0) # PR_SET_CHILD_SUBREAPER
          if (supervisor = fork)
            Process.wait(supervisor)
            say "orphan", Process.wait2.last.exitstatus
            exit!(0)
          end
          Karafka.monitor.subscribe("swarm_native.node_ready") { Process.kill(:KILL, Process.pid) }
        RUBY
        expect(run_karafka(setup) { nil }.out).to match(/^orphan #{code}$/)
      end
    end

    it "differs from plain Karafka, whose nodes stay for as long as the GVL is held", if: newest do
      kill_while_gvl_is_held(plain: true, leak: true) do |handles|
        expect(handles.map { |handle| handle.wait(1) }).to eq([nil, nil])
      end
    end

    # What follows is the gem's own, whichever Karafka runs on it: the newest stands for all. That Karafka 2.5.0 reports
    # only with librdkafka's statistics concerns the Ruby that has no newer one.
    it "leaves healthy nodes alone that give no statistics of librdkafka's, also during a long job", if: newest do
      setup = <<~RUBY
        Karafka::App.config.internal.swarm.node_report_timeout = 1_000
        Karafka::App.config.internal.swarm.liveness_interval = 100
        Karafka::App.config.internal.tick_interval = 200
        class Consumer
          def consume = (sleep 2.5; say "consumed", Process.pid)
        end
      RUBY
      topic = new_topic(partitions: 2)
      produce(topic, 1)
      result = run_karafka(setup, topic: topic, kafka: { "statistics.interval.ms": 0 }) do |app|
        app.wait_for(/^consumed/)
        app.signal("TERM")
      end
      expect(result.out).not_to include("swarm.manager.stopping")
      expect(result.out.scan(/^fetching/).size).to eq(1)
    end

    it "waits longer and longer for a node that cannot boot, and never takes it for ready", if: newest do
      setup = <<~RUBY
        Karafka::App.config.internal.swarm.node_restart_timeout = 100
        Karafka.monitor.subscribe("swarm.node.after_fork") { raise "no database" }
      RUBY
      result = run_karafka(setup) do |app|
        wait_until(KarafkaApp::PATIENCE, "three boots") { app.lines("native.node_exited").size == 3 }
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).not_to include("native.node_ready")
      waits = result.out.scan(/^native\.node_exited .*replaced in (\d+) ms/).flatten.map(&:to_i)
      expect(waits.size).to eq(3)
      expect(waits).to eq(waits.sort)
      expect(waits.first).to be >= 100
      expect(result.out).to include("no database")
    end

    it "outlives a listener of a fork that raises at a restart, and tells of it", if: newest do
      setup = <<~'RUBY'
        supervisor = Process.pid
        raises = { "before" => [2], "after" => [3] }
        raises.each do |moment, times|
          count = 0
          Karafka.monitor.subscribe("swarm.manager.#{moment}_fork") do
            raise "no #{moment}" if Process.pid == supervisor && times.include?(count += 1)
          end
        end
        SwarmNative::Karafka.setup { |config| config.restart_backoff = 0.01..0.02 }
      RUBY
      result = run_karafka(setup) do |app|
        2.times do |count|
          app.wait_until_ready(count + 1)
          Process.kill(:KILL, app.wait_until_fetching(count + 1).last)
        end
        app.wait_until_ready(3)
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      errors = result.out.scan(/^error\.occurred \d+ swarm\.supervisor\.error,(.*)$/).flatten
      expect(errors).to match([/no before/, /no after/])
    end

    it "has the policy of the supervisor beyond Karafka's: a node that grows too large is replaced", if: newest do
      setup = <<~RUBY
        SwarmNative::Karafka.setup do |config|
          config.memory_limit = 300 * 1024 * 1024
          config.memory_interval = 0.1 if config.respond_to?(:memory_interval=)
        end
        #{once('$ballast = "x" * (400 * 1024 * 1024)')}
      RUBY
      result = run_karafka(setup) do |app|
        app.wait_until_fetching(2)
        app.signal("TERM")
      end
      expect(result.out).to match(/^native\.node_exited \d+ memory_limit/)
    end
  end
end
