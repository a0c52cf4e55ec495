# frozen_string_literal: true

require "swarm_native/turnstile"

RSpec.describe SwarmNative::Turnstile::Queue do
  def in_ruby(code, deadline: 60, **more)
    result = run_ruby(<<~RUBY, deadline: deadline, **more)
      require "swarm_native/turnstile"
      require "timeout"
      Turnstile = SwarmNative::Turnstile
      Turnstile.enable
      def new_queue = Turnstile::Queue.new
      # A thread that waits for the queue.
      def waiting(queue, **more, &block)
        before = queue.num_waiting
        thread = Thread.new(&(block || -> { queue.pop(**more) }))
        wait_until { queue.num_waiting > before }
        thread
      end
      #{code}
    RUBY
    expect([result.success?, result.err]).to eq([true, ""]), result.inspect
    result.out
  end

  it "gives items in their order, and takes and answers what Ruby's does" do
    queue = described_class.new
    expect((queue << 1 << 2 << 3).push(4).enq(nil)).to be(queue)
    expect([queue.pop, queue.shift, queue.deq, queue.pop(true), queue.size]).to eq([1, 2, 3, 4, 1])
    expect([queue.pop, queue.empty?, queue.num_waiting, queue.closed?]).to eq([nil, true, 0, false])
    expect { queue.pop(true) }.to raise_error(ThreadError)
    expect { queue.pop(true, timeout: 1) }.to raise_error(ArgumentError)
    expect(queue.pop(timeout: 0.01)).to be_nil
    expect(queue.push(1).close).to be(queue)
    expect([queue.closed?, queue.pop, queue.pop, queue.pop(timeout: 9)]).to eq([true, 1, nil, nil])
    expect { queue << 1 }.to raise_error(ClosedQueueError)
    expect([queue.size, described_class.new.push(1).clear.length]).to eq([0, 0])
    expect { queue.dup }.to raise_error(TypeError)
  end

  it "waits for an item, for its close or for so many seconds, and sleeps meanwhile" do
    out = in_ruby(<<~RUBY)
      queue = new_queue
      thread = waiting(queue)
      p thread.status, thread.stop?
      queue << :item
      p thread.value, queue.num_waiting
      threads = Array.new(3) { waiting(queue) }
      p queue.num_waiting
      queue.close
      p threads.map(&:value), queue.num_waiting
      from = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      queue = new_queue
      p Thread.new { queue.pop(timeout: 0.05) }.value, Thread.new { queue.pop(timeout: -1) }.value
      p (Process.clock_gettime(Process::CLOCK_MONOTONIC) - from) >= 0.05
      p waiting(queue, timeout: 3600).tap { queue << 1 }.value, waiting(queue, timeout: 1e300).tap { queue << 2 }.value
      p (Thread.new { Thread.current.report_on_exception = false; queue.pop(timeout: "1") }.value rescue $!.class)
    RUBY
    expect(out.split).to eq(%w["sleep" true :item 0 3 [nil, nil, nil] 0 nil nil true 1 2 TypeError])
  end

  it "lets Thread#raise, #kill, #wakeup and Timeout in, and loses no item by them" do
    out = in_ruby(<<~RUBY)
      queue = new_queue
      thread = waiting(queue) { queue.pop rescue $!.message }
      thread.raise("raised")
      p thread.value, queue.num_waiting
      thread = waiting(queue)
      p thread.kill.join.value, queue.num_waiting
      thread = waiting(queue)
      100.times { thread.wakeup; Thread.pass }
      wait_until { queue.num_waiting == 1 }
      queue << 1
      p thread.value
      p Thread.new { Timeout.timeout(0.02) { queue.pop } rescue $!.class }.value, queue.num_waiting
      # Woken for an item and killed at once, a thread leaves it to the next.
      500.times do |at|
        queue = new_queue
        pop = -> { Thread.handle_interrupt(Object => :on_blocking) { queue.pop } }
        threads = Array.new(2) { waiting(queue, &pop) }
        queue << at
        threads.first.kill.join
        wait_until { queue.empty? }
        queue.close
        p at unless threads.map(&:value).compact == [at]
      end
    RUBY
    expect(out.split).to eq(%w["raised" 0 nil 0 1 Timeout::Error 0])
  end

  it "hands 40,000 items over, each once, while threads are killed, raise, time out and the garbage is collected" do
    out = in_ruby(<<~'RUBY', deadline: 300)
      COUNT = 40_000
      queue = new_queue
      random = Random.new(1)
      taken = []
      stop = false
      # An exception comes in only where they wait: what is taken is noted.
      take = lambda do |mine|
        Thread.handle_interrupt(Object => :on_blocking) do
          loop do
            item = queue.pop(timeout: [nil, 0.0005, 0.01].sample)
            item ? mine << item : (break if queue.closed?)
          end
        end
      rescue RuntimeError
        retry
      end
      start = lambda do
        mine = []
        taken << mine
        Thread.new { take.call(mine) }
      end
      takers = Array.new(6) { start.call }
      killer = Thread.new do
        until stop
          at = random.rand(takers.size)
          case random.rand(4)
          when 0 then takers[at].kill.join
                      takers[at] = start.call
          when 1 then takers[at].raise("raised")
          when 2 then takers[at].wakeup rescue ThreadError
          else GC.start(full_mark: false)
          end
          sleep 0.000_5
        end
      end
      putters = Array.new(2) { |first| Thread.new { (first...COUNT).step(2) { |item| queue << item; Thread.pass if item % 7 == 0 } } }
      busy = Thread.new { loop { 100.times { |at| at * at } } }
      putters.each(&:join)
      # With nobody who is killed or times out: what is there is taken, for no wait has missed its ring.
      wait_until(60) { queue.empty? }
      stop = true
      killer.join
      queue.close
      takers.each(&:join)
      p taken.flatten.sort == (0...COUNT).to_a
    RUBY
    expect(out).to eq("true\n")
  end

  it "passes an item to and fro 20,000 times between two threads that wait for nothing else" do
    out = in_ruby(<<~RUBY, deadline: 300)
      there, back = new_queue, new_queue
      other = Thread.new { 20_000.times { back << there.pop } }
      # Not the main thread, which waits by Ruby's own means.
      p Thread.new { 20_000.times.sum { |at| there << 1; back.pop } }.value
      other.join
    RUBY
    expect(out).to eq("20000\n")
  end

  it "works in a forked child, whatever waited in the parent, and in the parent as before" do
    out = in_ruby(<<~RUBY)
      queue = new_queue
      threads = Array.new(3) { waiting(queue) }
      pid = fork do
        exit!(1) unless queue.num_waiting.zero?
        thread = waiting(queue)
        queue << :child
        exit!(thread.value == :child ? 0 : 2)
      end
      p Process.wait2(pid).last.exitstatus, queue.num_waiting
      3.times { |at| queue << at }
      p threads.map(&:value).sort
    RUBY
    expect(out.split("\n")).to eq(["0", "3", "[0, 1, 2]"])
  end

  it "leaves signals to the main thread, also where all threads wait for it" do
    out = in_ruby(<<~RUBY)
      queue = new_queue
      3.times { waiting(queue) }
      trap(:USR1) { $stdout.syswrite("trapped\\n") }
      trap(:TERM) { exit }
      at_exit { puts "left" }
      # From another process, to one in which no thread runs.
      spawn("sleep 0.2; kill -USR1 \#{Process.pid}; sleep 0.1; kill -TERM \#{Process.pid}", out: :err)
      queue.pop(timeout: 0.1)
      queue.pop
    RUBY
    expect(out).to eq("trapped\nleft\n")
  end

  it "lets other fibers of a thread go on where it has a scheduler", :test_gems do
    out = in_ruby(<<~RUBY, env: test_gems_env)
      require "async"
      queue = new_queue
      Thread.new do
        Async do |task|
          task.async { p queue.pop, queue.pop(timeout: 0.01), queue.pop(timeout: 9) }
          task.async { p :meanwhile; queue << 1; sleep 0.1; queue << 2 }
        end
      end.join
    RUBY
    expect(out.split).to eq(%w[:meanwhile 1 nil 2])
  end

  it "asks for the GVL when a wait is over, which Ruby's own does not where the turnstile cannot see it" do
    wake_ups = lambda do |made|
      in_ruby(<<~RUBY).to_i
        there, back = #{made}, #{made}
        Thread.new { loop { 100.times { |at| at * at } } }
        other = Thread.new { loop { back << there.pop } }
        p Turnstile.measure { Thread.new { 20.times { there << 1; back.pop } }.join }.wake_ups
      RUBY
    end
    expect(wake_ups.call("new_queue")).to be >= 30
    expect(wake_ups.call("Thread::Queue.new")).to eq(0) if RUBY_VERSION < "3.3"
  end
end
