# frozen_string_literal: true

require "json"
require "rbconfig"

# The whole demo with few messages, and with something broken in it: what it is there to find, it has to find.
RSpec.describe "the demo" do
  main = File.join(ROOT, "examples", "demo", "main.rb")

  # Runs it in place of the code of `run_ruby`; its scratch folder is the one for the demo's too. `breaks` is code that
  # every program of the demo loads first.
  def demo(*arguments, breaks: nil, deadline: 180, env: {}, &block)
    options = breaks ? "-r./breaks.rb" : ""
    run_ruby(<<~RUBY, args: arguments, deadline: deadline, env: env, library: nil, &block)
      File.write("breaks.rb", #{breaks.to_s.dump})
      ENV["TMPDIR"] = Dir.pwd
      ENV["RUBYOPT"] = "#{options} \#{ENV['RUBYOPT']}"
      exec #{RbConfig.ruby.dump}, #{File.join(ROOT, 'examples', 'demo', 'main.rb').dump}, *ARGV
    RUBY
  end

  def report(result)
    JSON.parse(result.out)
  rescue JSON::ParserError
    raise "not one JSON document: #{result.inspect}"
  end

  # Something of the demo's, once it is there.
  def patch(file, constant, method, body)
    <<~RUBY
      TracePoint.new(:end) do |point|
        if point.self.name == #{constant.dump} && point.self.method_defined?(:#{method}) && !point.self.include?(Breaks)
          point.self.prepend(Breaks)
        end
      end.enable if File.basename($PROGRAM_NAME) == #{file.dump}
      module Breaks
        #{body}
      end
    RUBY
  end

  it "loses nothing while nodes are killed, frozen, crashed and silenced, and tells so as JSON" do
    result = demo("--json", "--messages", "3000", "--seed", "11")
    expect(result.status.exitstatus).to eq(0), result.inspect
    told = report(result)
    expect(told).to include("ok" => true, "problems" => [], "messages" => 3000, "seed" => 11, "nodes" => 4,
                            "processed" => 3000, "lost" => 0, "wrong" => 0, "left_behind" => 0)
    expect(told["faults"].map { |fault| fault["kind"] }).to match_array(%w[kill freeze crash silence])
    told["faults"].each do |fault|
      expect(fault["repaired"]).to be(true)
      expect(fault["detected"]).to be <= fault["replaced"]
      expect(fault["replaced"]).to be < fault["first_message"]
    end
    expect(told["faults"].to_h { |fault| fault.values_at("kind", "reason") })
      .to eq("kill" => "killed", "crash" => "crashed", "freeze" => "hung", "silence" => "hung")
  end

  it "fails when messages are missing from a ledger, and names them" do
    result = demo("--no-chaos", "--messages", "1000", breaks: patch("swarm.rb", "Demo::Ledger", "write", <<~RUBY))
      def write(results) = super(results.reject { |id, _| [77, 78].include?(id) })
    RUBY
    expect(result.status.exitstatus).to eq(1), result.inspect
    expect(result.out).to match(/^Lost +2$/).and include("The swarm: 2 messages lost, ids 77 78")
    expect(result.out).not_to include("Nothing was lost")
  end

  it "fails when a message was not processed as in one process" do
    result = demo("--no-chaos", "--messages", "1000", breaks: patch("swarm.rb", "Demo::Ledger", "write", <<~RUBY))
      def write(results) = super(results.map { |id, result| [id, id == 5 ? result ^ 1 : result] })
    RUBY
    expect(result.status.exitstatus).to eq(1), result.inspect
    expect(result.out).to include("1 message with another result than in one process")
  end

  it "fails when a fault is not repaired" do
    result = demo("--messages", "2000", breaks: <<~RUBY)
      if File.basename($PROGRAM_NAME) == "swarm.rb"
        require "swarm_native"
        # A quiet swarm restarts nothing.
        SwarmNative::Supervisor.prepend(Module.new { def run(&work) = on(:node_ready) { quiet } && super })
      end
    RUBY
    expect(result.status.exitstatus).to eq(1), result.inspect
    expect(result.out).to match(/node \d, .*: not repaired/), result.inspect
  end

  it "shows a line a second and what happens where nobody looks at a terminal" do
    result = demo("--no-chaos", "--nodes", "2", "--messages", "1000", "--seed", "1")
    expect(result.status.exitstatus).to eq(0), result.inspect
    expect(result.out).to match(/\A1,000 messages, 2 nodes, \d+ cores?, seed 1$/)
      .and match(/node 1 \(pid \d+\) started/)
      .and match(/1,000 of 1,000 messages, [\d,]+\/s; nodes: 2 ready/)
      .and match(/^Lost +0$/)
    expect(result.out).not_to include("\e")
    expect(result.err).to eq("")
  end

  it "draws in place on a terminal, within its width, and without colours if asked" do
    result = run_ruby(<<~RUBY, deadline: 120, env: { "NO_COLOR" => "1", "TERM" => "xterm" }, library: nil)
      require "io/console"
      require "pty"
      ENV["TMPDIR"] = Dir.pwd
      PTY.spawn(#{RbConfig.ruby.dump}, #{main.dump}, "--no-chaos", "--messages", "1000") do |output, _, pid|
        output.winsize = [24, 50]
        print output.readpartial(4096) while true
      rescue Errno::EIO, EOFError
        Process.wait(pid)
        exit $?.exitstatus
      end
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out).to match(/\e\[\d+A\e\[J/)
    expect(result.out).not_to match(/\e\[[\d;]*m/)
    picture = result.out[/The swarm: .*\n/m].gsub(/\e\[\d*[AJ]/, "")
    expect(picture.lines.map { |line| line.chomp.chomp("\r").size }.max).to be <= 49
  end

  it "stops at Ctrl-C and leaves nothing behind" do
    result = demo("--seed", "1") do |running|
      running.wait_for(/nodes: 4 ready/, 90)
      Process.kill(:INT, -running.pid)
    end
    expect(result.status.exitstatus).to eq(130), result.inspect
    expect(result.out).to end_with("Stopped.\n")
    expect(result.err).to eq("")
  end

  it "leaves nothing behind when it is killed" do
    result = demo("--seed", "1") do |running|
      running.wait_for(/nodes: 4 ready/, 90)
      running.signal(:KILL)
    end
    expect(result.status.termsig).to eq(Signal.list["KILL"]), result.inspect
  end

  it "refuses bad options by name, with what is allowed" do
    { %w[--nodes 0] => "--nodes 0 (allowed: 1 to 64)", %w[--messages 10] => "--messages 10 (allowed: 1000 to 10000000)",
      %w[--seed x] => "--seed x", %w[--colour] => "--colour", %w[more] => "more" }.each do |arguments, message|
      result = demo(*arguments, deadline: 10)
      expect(result.status.exitstatus).to eq(2), result.inspect
      expect(result.err).to include(message).and include("See bin/demo --help")
    end
  end
end
