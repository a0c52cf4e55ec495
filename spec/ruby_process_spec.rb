# frozen_string_literal: true

# The runner of the other specs, itself under test: each example runs RSpec on a spec of its own.
RSpec.describe RubyProcess do
  # Runs the source as a spec file, in RSpec in a process of its own.
  def rspec(example, **options)
    run_ruby(<<~RUBY, args: [example, ROOT], library: nil, deadline: 30, **options)
      require "rspec/core"
      source, root = ARGV
      File.write("inner_spec.rb", "RSpec.describe('it') { it { \#{source} } }")
      exit RSpec::Core::Runner.run(["--options", File::NULL, "-r", "\#{root}/spec/spec_helper.rb", "inner_spec.rb"])
    RUBY
  end

  def pids(result)
    result.out.scan(/started (\d+)/).flatten.uniq.map(&:to_i)
  end

  def gone?(pid)
    File.read("/proc/#{pid}/stat")[/.*\) (\S)/, 1] == "Z"
  rescue Errno::ENOENT, Errno::ESRCH
    true
  end

  it "gives the output, the errors and the status" do
    result = run_ruby("puts ARGV.first, SwarmNative::VERSION, $stdin.read; warn 'e'; exit 3", args: ["a b"], input: "in")
    expect(result.out.lines(chomp: true)).to eq(["a b", SwarmNative::VERSION, "in"])
    expect(result.err).to include("e\n")
    expect(result.status.exitstatus).to eq(3)
    expect(result).not_to be_success
  end

  it "runs the code in a process group and a folder of its own" do
    result = run_ruby("puts Process.getpgid(0) == Process.pid, Process.getpgid(0), Dir.pwd")
    own, group, folder = result.out.lines(chomp: true)
    expect(own).to eq("true")
    expect(group.to_i).not_to eq(Process.getpgid(0))
    expect(File.exist?(folder)).to be(false)
  end

  it "lets a block talk to the process while it runs" do
    result = run_ruby("trap(:TERM) { puts 'bye'; exit 4 }; puts 'up'; $stdout.flush; sleep") do |running|
      running.wait_for(/up/)
      running.signal(:TERM)
    end
    expect(result.out).to eq("up\nbye\n")
    expect(result.status.exitstatus).to eq(4)
  end

  it "fails at once where the block waits for what a process that has ended did not write" do
    result = rspec(<<~'RUBY')
      run_ruby("puts 'nothing of the kind'; exit 4") { |running| running.wait_for(/up/, 60) }
    RUBY
    expect(result).not_to be_success
    expect(result.out).to include("output like /up/ does not come about any more: the process has ended",
                                  "nothing of the kind", "exit 4")
  end

  it "waits for what the children of a process that has ended still write" do
    result = run_ruby(<<~'RUBY') { |running| running.wait_for(/child is done/) }
      parent = Process.pid
      fork do
        wait_until { Process.ppid != parent }
        puts "the child is done"
      end
      exit!
    RUBY
    expect(result.out).to include("child is done")
  end

  describe "at the deadline" do
    it "prints the backtraces of all threads of all processes, kills them all and fails" do
      result = rspec(<<~'RUBY')
        run_ruby(<<~'CODE', deadline: 2)
          $stdout.sync = true
          def stuck_in_a_thread = sleep
          def stuck_in_a_fork = sleep
          def stuck_here = sleep
          puts "started #{Process.pid}"
          Thread.new { stuck_in_a_thread }
          fork { trap(:TERM, :IGNORE); puts "started #{Process.pid}"; stuck_in_a_fork }
          fork { Process.setsid; puts "started #{Process.pid}"; exec("sleep", "1000") }
          stuck_here
        CODE
      RUBY
      expect(result.status.exitstatus).to eq(1)
      expect(result.out).to match(/1 example, 1 failure/).and match(/did not end within \d+ s and was killed/)
      expect(result.out).to match(/stuck_here/).and match(/stuck_in_a_thread/).and match(/stuck_in_a_fork/)
      expect(result.out).to match(/sleep 1000\n.*no Ruby backtraces/)
      expect(pids(result).size).to eq(3)
      expect(pids(result)).to all(satisfy("be gone") { |pid| gone?(pid) })
    end

    it "shows where the kernel has a process that holds the GVL in C code" do
      result = rspec(<<~'RUBY')
        run_ruby(<<~'CODE', deadline: 2)
          require "fiddle"
          pause = Fiddle::Function.new(Fiddle.dlopen(nil)["pause"], [], Fiddle::TYPE_INT, need_gvl: true)
          $stdout.sync = true
          puts "started #{Process.pid}"
          Thread.new { pause.call }.join
        CODE
      RUBY
      expect(result.status.exitstatus).to eq(1)
      expect(result.out).to match(/no Ruby backtraces/).and match(/thread \d+ \S+: S \(sleeping\), waits in \S+/)
      expect(pids(result).size).to eq(1)
      expect(pids(result)).to all(satisfy("be gone") { |pid| gone?(pid) })
    end

    it "answers for a process that is stopped" do
      result = rspec(<<~'RUBY')
        run_ruby(<<~'CODE', deadline: 2)
          def stopped_here = Process.kill(:STOP, Process.pid)
          stopped_here
          sleep
        CODE
      RUBY
      expect(result.status.exitstatus).to eq(1)
      expect(result.out).to match(/state T\)/).and match(/stopped_here/)
    end
  end

  describe "after a normal end" do
    it "kills and reports a process that was left behind" do
      result = rspec('run_ruby(%q[puts "started #{fork { sleep }}"])')
      expect(result.status.exitstatus).to eq(1)
      expect(result.out).to match(/left processes behind/)
      expect(pids(result).size).to eq(1)
      expect(pids(result)).to all(satisfy("be gone") { |pid| gone?(pid) })
    end

    it "finds one that has made itself a daemon" do
      result = rspec(<<~'RUBY')
        run_ruby(<<~'CODE')
          $stdout.sync = true
          fork { Process.daemon(false, true); puts "started #{Process.pid}"; sleep }
          wait_until { File.read("stdout").include?("started") }
        CODE
      RUBY
      expect(result.status.exitstatus).to eq(1)
      expect(result.out).to match(/left processes behind/)
      expect(pids(result).size).to eq(1)
      expect(pids(result)).to all(satisfy("be gone") { |pid| gone?(pid) })
    end

    it "only kills it where the example allows it" do
      result = rspec('expect(run_ruby(%q[puts "started #{fork { sleep }}"], leak: true).out).to match(/started/); ' \
                     'puts "the example ended well"')
      expect(result.status.exitstatus).to eq(0)
      expect(result.out).to match(/the example ended well/).and match(/1 example, 0 failures/)
    end
  end

  it "shows the output of a process whose block fails, and kills the process" do
    result = rspec(<<~'RUBY')
      run_ruby(%q[puts "started #{Process.pid}"; $stdout.flush; sleep]) do |running|
        running.wait_for(/started/)
        expect(1).to eq(2)
      end
    RUBY
    expect(result.status.exitstatus).to eq(1)
    expect(result.out).to match(/expected: 2/).and match(/--- stdout\n\s*started/)
    expect(pids(result)).to all(satisfy("be gone") { |pid| gone?(pid) })
  end

  it "does not take a condition that never comes for one that came" do
    expect { wait_until(0.01, "the moon") { false } }.to raise_error(WaitUntil::Expired, /the moon/)
    expect(wait_until { 7 }).to eq(7)
  end
end
