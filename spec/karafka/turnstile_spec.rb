# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in's turnstile", :karafka, :kafka, :test_gems do
  # What the turnstile does here: it knows of all threads from Ruby 3.3 on.
  MODE = RUBY_VERSION < "3.3" ? "own" : "all"

  TELL = <<~RUBY
    tell = proc { say "turnstile", Process.pid, SwarmNative::Turnstile.mode }
    Karafka.monitor.subscribe("connection.listener.before_fetch_loop", &tell)
    Karafka.monitor.subscribe("swarm_native.node_ready", &tell)
  RUBY

  def modes(result) = result.out.scan(/^turnstile (\d+) (\w+)$/).uniq.to_h { |pid, mode| [pid.to_i, mode] }

  KarafkaApp::VERSIONS.each do |version|
    it "is on in each node, restarted ones too, and never in the supervisor (Karafka #{version})" do
      nodes = nil
      result = run_karafka(TELL, version: version) do |app|
        first = app.wait_until_fetching(1).first
        app.wait_until_ready
        Process.kill(:KILL, first)
        nodes = app.wait_until_fetching(2)
        app.wait_until_ready(2)
        threads = Dir["/proc/#{app.pid}/task/*/comm"].map { |path| File.read(path).chomp }
        expect(threads).not_to include(a_string_matching(/turnstile/))
        app.signal("TERM")
      end
      expect(result.err).to eq("")
      expect(result.status.exitstatus).to eq(0)
      expect(modes(result)).to eq(result.status.pid => "off", nodes[0] => MODE, nodes[1] => MODE)
    end
  end

  # That each version begins to consume where the turnstile is switched on is shown above; what is switched on is the gem's
  # own.
  it "is on in a process that consumes by itself" do
    result = run_karafka(TELL, command: "server") do |app|
      app.wait_until_fetching(1)
      app.signal("TERM")
    end
    expect(result.err).to eq("")
    expect(result.status.exitstatus).to eq(0)
    expect(modes(result)).to eq(result.status.pid => MODE)
  end

  it "stays as the application has set it, and out of the supervisor all the same" do
    setup = <<~RUBY
      #{TELL}
      SwarmNative::Turnstile.enable(budget: 0.25)
      Karafka.monitor.subscribe("app.running") { say "explained", SwarmNative::Turnstile.explain }
    RUBY
    node = nil
    result = run_karafka(setup) do |app|
      node = app.wait_until_fetching(1).first
      app.wait_until_ready
      app.signal("TERM")
    end
    expect(modes(result)).to eq(result.status.pid => "off", node => MODE)
    expect(result.out).to match(/^explained #{MODE}: .*budget 0.25/)
  end

  { "false" => "off", "{ budget: 0.5 }" => MODE }.each do |setting, mode|
    it "can be set: #{setting}" do
      setup = <<~RUBY
        #{TELL}
        SwarmNative::Karafka.setup { |config| config.turnstile = #{setting} }
        Karafka.monitor.subscribe("app.running") { say "explained", SwarmNative::Turnstile.explain }
      RUBY
      result = run_karafka(setup, command: "server") do |app|
        app.wait_until_fetching(1)
        app.signal("TERM")
      end
      expect(modes(result)).to eq(result.status.pid => mode)
      expect(result.out).to match(mode == "off" ? /^explained off/ : /^explained .*budget 0.5/)
    end
  end
end
