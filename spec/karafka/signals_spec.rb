# frozen_string_literal: true

require "support/karafka_app"

KarafkaApp::VERSIONS.each do |version|
  newest = version == KarafkaApp::VERSIONS.last

  RSpec.describe "the drop-in's signals, Karafka #{version}", :kafka, :test_gems, karafka: version do
    # A swarm of two that is stopped after one of its nodes was replaced.
    # @return [Array(RubyProcess::Result, Array<Integer>)] with the pids that ran then: the supervisor, the node that
    #   was left alone, the replacement
    def stop_after_a_restart(plain: false)
      running = nil
      result = run_karafka('trap("TERM") { say "trapped", Process.pid }', nodes: 2, plain: plain) do |app|
        killed, sibling = app.wait_until_fetching(2)
        app.wait_until_ready(2)
        Process.kill(:KILL, killed)
        replacement = app.wait_until_fetching(3).last
        app.wait_until_ready(3)
        running = [app.pid, sibling, replacement]
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      [result, running]
    end

    def terms_of(app) = app.out.scan(/^process\.notice_signal #{app.pid} SIGTERM$/).size

    # @return [Hash{Integer => Integer}] how often each process has told of a TERM
    def terms(result) = result.out.scan(/^process\.notice_signal (\d+) SIGTERM$/).flatten.map(&:to_i).tally

    it "runs what users have trapped, once, in the supervisor and in nodes, restarted ones too" do
      result, running = stop_after_a_restart
      expect(result.out.scan(/^trapped (\d+)$/).flatten.map(&:to_i)).to match_array(running)
      expect(terms(result)).to eq(running.to_h { |pid| [pid, 1] })
      expect(result.out).to match(/^process\.notice_signal #{result.status.pid} SIGCHLD$/)
    end

    it "differs from plain Karafka, where a restarted node handles each signal twice", if: newest do
      result, (supervisor, sibling, replacement) = stop_after_a_restart(plain: true)
      expect(terms(result)).to eq(supervisor => 1, sibling => 1, replacement => 2)
    end

    # A supervisor that gets a TERM as soon as it has a node.
    def early_term
      <<~'RUBY'
        supervisor = Process.pid
        Karafka.monitor.subscribe("swarm.manager.after_fork") do
          Process.kill(:TERM, supervisor) if Process.pid == supervisor
        end
      RUBY
    end

    it "stops on a TERM that comes before Karafka's own handlers" do
      result = run_karafka(early_term, nodes: 2) { nil }
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).to match(/^process\.notice_signal #{result.status.pid} SIGTERM$/)
      expect(result.out).to match(/^app\.terminated #{result.status.pid}/)
    end

    it "differs from plain Karafka, whose supervisor dies of such a TERM and leaves its node behind", if: newest do
      result = run_karafka(early_term, nodes: 2, plain: true, leak: true) { |app| app.wait_until_fetching(1) }
      expect(result.status.termsig).to eq(Signal.list["TERM"])
    end

    # A restarted node that gets a TERM at some moment of its boot.
    # @param moment [String] runs `at_boot` then
    def term_at_boot(moment)
      <<~RUBY
        at_boot = lambda do
          restarted = File.exist?("booted")
          File.write("booted", "")
          next unless restarted

          others = Thread.list
          Process.kill(:TERM, Process.pid)
          # Karafka's handlers do their work in a thread.
          (Thread.list - others).each(&:join)
          say "told", Process.pid
        end
        #{moment}
      RUBY
    end

    def begins_to_boot = term_at_boot('Karafka.monitor.subscribe("swarm.node.after_fork") { at_boot.call }')

    # Karafka has forgotten what its supervisor does on a signal, and has not yet said what a node does.
    def between_handlers
      term_at_boot("Karafka::Process.prepend(Module.new { define_method(:clear) { super().tap { at_boot.call } } })")
    end

    # @return [RubyProcess::Result]
    def kill_and_boot(setup, **options)
      run_karafka(setup, **options) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, first)
        replacement = app.wait_for(/^told (\d+)/)[1]
        yield app, replacement
        app.signal("TERM")
      end
    end

    {
      "when it begins to boot" => :begins_to_boot, "right before its handlers stand" => :between_handlers
    }.each do |words, moment|
      it "stops a restarted node gracefully by a TERM #{words}" do
        result = kill_and_boot(send(moment)) do |app, replacement|
          expect(app.wait_for(/^native\.node_exited #{replacement} .*/).to_s).to match(/ exited .*\(exit 0\)/)
          expect(terms(app)[replacement.to_i]).to eq(1)
        end
        expect(result.status.exitstatus).to eq(0)
      end
    end

    it "differs from plain Karafka, where such a node goes on as if it had not been told", if: newest do
      topic = new_topic(partitions: 2)
      kill_and_boot(between_handlers, topic: topic, plain: true) do |app, replacement|
        app.wait_until_fetching(2)
        produce(topic, 2)
        app.wait_for(/^consumed #{replacement} /)
        expect(app.out).not_to match(/^app\.stopping #{replacement}/)
      end
    end

    # A job that lasts until it is let go, and what a second TERM makes of it, more than a second after the first.
    def second_term(setting)
      setup = <<~RUBY
        #{setting}
        Karafka::App.config.shutdown_timeout = 60_000
        class Consumer
          def consume
            say "working", Process.pid
            sleep 0.01 until File.exist?("enough")
            say "worked", Process.pid
          end
        end
      RUBY
      topic = new_topic(partitions: 2)
      produce(topic, 1)
      run_karafka(setup, topic: topic) do |app|
        app.wait_until_ready
        app.wait_for(/^working/)
        app.signal("TERM")
        app.wait_for(/^app\.stopping #{app.pid}/)
        due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 1.1
        wait_until(10, "the end of that second") { Process.clock_gettime(Process::CLOCK_MONOTONIC) > due }
        app.signal("TERM")
        yield app
      end
    end

    it "changes nothing on a second TERM, as Karafka does" do
      result = second_term("") do |app|
        wait_until(KarafkaApp::PATIENCE, "the second TERM") { terms_of(app) == 2 }
        File.write(File.join(app.process.scratch, "enough"), "")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).to match(/^worked/)
      expect(result.out).not_to include("native.node_killed")
    end

    # The gem's own, whichever Karafka runs on it.
    it "kills on a second TERM where that is set", if: newest do
      result = second_term("SwarmNative::Karafka.setup { |config| config.second_stop_kills = true }") { nil }
      expect(result.status.exitstatus).to eq(2)
      expect(result.out).not_to match(/^worked/)
      expect(result.out).to match(/^native\.node_killed/)
    end

    it "replaces one node after the other on HUP, and can be scaled" do
      setup = <<~'RUBY'
        Thread.new do
          manager = Karafka::App.config.internal.swarm.manager
          [3, 1].each do |size|
            sleep 0.05 until File.exist?("scale-#{size}") || Process.ppid == 1
            manager.scale(size)
          end
          sleep 0.01 until manager.nodes.size == 1 || Process.ppid == 1
          say "left", *manager.nodes.map { |node| "#{node.id} #{node.alive?}" }
        end
      RUBY
      result = run_karafka(setup, nodes: 2) do |app|
        before = app.wait_until_fetching(2)
        app.wait_until_ready(2)
        app.signal("HUP")
        app.wait_for(/^native\.restarted/)
        expect(app.children & before).to eq([])
        File.write(File.join(app.process.scratch, "scale-3"), "")
        app.wait_until_fetching(5)
        expect(app.children.size).to eq(3)
        File.write(File.join(app.process.scratch, "scale-1"), "")
        app.wait_for(/^left 0 true$/)
        wait_until(KarafkaApp::PATIENCE, "their end") { app.children.size == 1 }
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      expect(result.out.scan(/^native\.node_exited \d+ restart /).size).to eq(2)
    end

    it "differs from plain Karafka, whose supervisor dies of HUP", if: newest do
      result = run_karafka(plain: true, leak: true) do |app|
        app.wait_until_ready
        app.signal("HUP")
      end
      expect(result.status.termsig).to eq(Signal.list["HUP"])
    end
  end
end
