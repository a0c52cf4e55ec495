# frozen_string_literal: true

require "support/karafka_app"

# The gem's own, whichever Karafka runs on it: the newest stands for all.
RSpec.describe "how a drop-in swarm ends", :karafka, :kafka, :test_gems do
  it "ends with an error when a crash loop ends its nodes, instead of supervising nothing" do
    setup = <<~RUBY
      SwarmNative::Karafka.setup do |config|
        config.on_crash_loop = :stop
        config.crash_loop_limit = 2
        config.restart_backoff = 0.01..0.02
      end
      Karafka.monitor.subscribe("swarm.node.after_fork") { raise "no database" }
    RUBY
    result = run_karafka(setup) { nil }
    expect(result.status.exitstatus).to eq(1)
    expect(result.err).to match(/node 0 is in a crash loop, which ends the swarm \(on_crash_loop: :stop\)/)
    expect(result.out).to match(/^error\.occurred #{result.status.pid} swarm\.supervisor\.error,node 0 is in a crash loop/)
  end

  it "ends in order when its nodes have done their work, or the manager was told to stop" do
    ["config.on_normal_exit = :leave", "nil"].each do |setting|
      setup = <<~RUBY
        SwarmNative::Karafka.setup { |config| #{setting} }
        Karafka.monitor.subscribe("app.running") do
          # Not before the supervisor has told that it supervises.
          Thread.new { sleep 0.01 until fetching && File.exist?("supervising"); Karafka::Server.stop }
        end
        Karafka.monitor.subscribe("app.supervising") do
          File.write("supervising", "")
          #{"Karafka::App.config.internal.swarm.manager.stop" if setting == "nil"}
        end
      RUBY
      result = run_karafka(setup) { nil }
      expect(result.status.exitstatus).to eq(0)
      ends = result.out.scan(/^(app\.\w+) #{result.status.pid}/).flatten
      expect(ends).to eq(%w[app.supervising app.stopping app.stopped app.terminated])
    end
  end

  # What is killed may take its time to go, and then Karafka's own deadline comes first.
  it "ends with exit code 2 also where Karafka itself finds that nodes did not stop in time" do
    result = stop_deaf(3_000, <<~RUBY)
      # Before the node is killed.
      SwarmNative::Karafka::Supervision.send(:remove_const, :MARGIN)
      SwarmNative::Karafka::Supervision::MARGIN = -3_000
    RUBY
    expect(result.status.exitstatus).to eq(2)
    expect(result.out.scan(/^error\.occurred #{result.status.pid} app\.stopping\.error/).size).to eq(1)
  end

  # Two who stop it while it starts: a terminal and a script, say.
  it "kills nobody on a second TERM before Karafka's handlers stand" do
    setup = <<~'RUBY'
      supervisor = Process.pid
      Karafka.monitor.subscribe("app.running") do
        trap("TERM") { Thread.new { sleep 0.01 until File.exist?("enough"); exit!(7) } }
        say "deaf"
      end
      Karafka.monitor.subscribe("swarm.manager.after_fork") do |event|
        next unless Process.pid == supervisor && event[:node].id == 1

        sleep 0.01 until File.read("stdout").include?("deaf")
        Process.kill(:TERM, supervisor)
      end
      # The loop has been told of the first, and its second is over.
      Karafka::Process.prepend(Module.new do
        define_method(:supervise) do
          if Process.pid == supervisor
            due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 1.1
            sleep 0.05 until Process.clock_gettime(Process::CLOCK_MONOTONIC) > due
            Process.kill(:TERM, supervisor)
            File.write("enough", "")
          end
          super()
        end
      end)
    RUBY
    result = run_karafka(setup, nodes: 2) { nil }
    expect(result.out).not_to include("native.node_killed")
    expect(result.status.exitstatus).to eq(0)
  end
end
