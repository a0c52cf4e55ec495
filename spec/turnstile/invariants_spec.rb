# frozen_string_literal: true

require_relative "nudged"

if Nudged.possible?
  RSpec.describe "SwarmNative::Turnstile: what holds in Ruby holds under nudges" do
    include Nudged

    it "keeps threads apart by Mutex, Monitor, Queue and ConditionVariable" do
      result = run_nudged(<<~RUBY)
        require "monitor"
        mutex, monitor = Mutex.new, Monitor.new
        counts = [0, 0]
        add = lambda do |at|
          value = counts[at]
          spin
          counts[at] = value + 1
        end
        workers = 4.times.map do
          Thread.new do
            250.times do
              mutex.synchronize { add.call(0) }
              monitor.synchronize { monitor.synchronize { add.call(1) } }
            end
          end
        end
        items = SizedQueue.new(3)
        given = Thread.new { 2_000.times { |at| items << at }; items.close }
        taken = []
        while (item = items.pop) do taken << item end
        ready, turn = ConditionVariable.new, 0
        dancers = 3.times.map do |own|
          Thread.new do
            100.times do
              mutex.synchronize do
                ready.wait(mutex) until turn % 3 == own
                turn += 1
                ready.broadcast
              end
            end
          end
        end
        (workers + dancers + [given]).each(&:join)
        p counts, taken == (0...2_000).to_a, turn
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("[1000, 1000]\ntrue\n300\n")
    end

    it "leaves $!, $~, ensure, errno and the value of an expression alone" do
      result = run_nudged(<<~'RUBY', nudges: 20)
        require "fiddle"
        wrong = Queue.new
        checkers = 4.times.map do |own|
          Thread.new do
            500.times do |at|
              "thread-#{own}-#{at}" =~ /-(\d+)-(\d+)/
              spin
              wrong << $~ unless $1 == own.to_s && $2 == at.to_s
              steps = []
              begin
                raise KeyError, "#{own}/#{at}"
              rescue KeyError
                spin
                wrong << $! unless $!.message == "#{own}/#{at}"
              ensure
                spin
                steps << :ensure
              end
              wrong << $! if $!
              wrong << steps unless steps == [:ensure]
              begin
                File.open("/nowhere/#{own}")
              rescue SystemCallError => e
                wrong << e unless e.is_a?(Errno::ENOENT)
              end
              value = catch(:out) { spin; throw :out, [own, at] }
              wrong << value unless value == [own, at]
            end
          end
        end
        checkers.each(&:join)
        p wrong.size
        p wrong.pop until wrong.empty?
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("0\n")
    end

    it "gives a Fiber scheduler its fibers", :test_gems do
      result = run_nudged(<<~RUBY, env: test_gems_env)
        require "async"
        pairs = 3.times.map do
          Thread.new do
            Async do |task|
              queue = Queue.new
              got = []
              reader = task.async { 50.times { got << queue.pop } }
              task.async { 50.times { |at| sleep 0.000_1; spin; queue << at } }
              reader.wait
              got == (0...50).to_a
            end.wait
          end
        end
        p pairs.map(&:value)
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("[true, true, true]\n")
    end

    it "survives GC.stress and GC.compact" do
      result = run_nudged(<<~RUBY, nudges: 20)
        made = Queue.new
        workers = 3.times.map do |own|
          Thread.new { 300.times { |at| made << "\#{own}\#{"x" * (at % 90)}" } }
        end
        20.times do
          GC.compact
          sleep 0.000_1
        end
        workers.each(&:join)
        GC.stress = true
        stressed = Thread.new { Array.new(30) { |at| [at.to_s] } }
        10.times { Thread.new { made << "last" }.join }
        GC.stress = false
        p stressed.value.size, made.size
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("30\n910\n")
    end

    it "waits for C code that holds the GVL, and does not disturb it" do
      result = run_nudged(<<~RUBY, busy: 0, nudges: 1)
        require "fiddle"
        hold = Fiddle::Function.new(Fiddle::Handle::DEFAULT["usleep"], [Fiddle::TYPE_INT], Fiddle::TYPE_INT, need_gvl: true)
        spin until Turnstile.stats.heavy.positive?
        before = Turnstile.stats
        ends = 20.times.map { hold.call(20_000) }
        p ends.uniq, Turnstile.stats.since(before).nudges < 2_000
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("[0]\ntrue\n")
    end

    it "runs the postponed jobs of others, without waiting for a thread that has parked" do
      result = run_nudged(<<~RUBY, busy: 3)
        require "fiddle"
        handle = Fiddle::Handle::DEFAULT
        register = Fiddle::Function.new(handle["rb_postponed_job_preregister"],
                                        [Fiddle::TYPE_INT, Fiddle::TYPE_VOIDP, Fiddle::TYPE_VOIDP], Fiddle::TYPE_INT)
        trigger = Fiddle::Function.new(handle["rb_postponed_job_trigger"], [Fiddle::TYPE_INT], Fiddle::TYPE_VOID,
                                       need_gvl: true)
        ran = late = 0
        job = Fiddle::Closure::BlockCaller.new(Fiddle::TYPE_VOID, [Fiddle::TYPE_VOIDP]) { ran += 1 }
        number = register.call(0, job, nil)
        # A job asked for by a thread that runs is done by its next interrupt check, as without nudges.
        samplers = 3.times.map do
          Thread.new do
            1_000.times do
              before = ran
              trigger.call(number)
              spin
              late += 1 if ran == before
            end
          end
        end
        samplers.each(&:join)
        p ran > 2_000, late
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("true\n0\n")
    end

    it "shows a thread that has stepped aside as asleep, and Thread#wakeup does it no harm" do
      result = run_nudged(<<~RUBY, busy: 3)
        wait_until { Turnstile.stats.nudges > 500 }
        busy = Thread.list.select { |thread| thread != Thread.main && Turnstile.stats.heavy.positive? }
        seen = 2_000.times.flat_map { busy.map(&:status) }.uniq
        200.times { busy.each(&:wakeup) }
        p (seen - ["run", "sleep"]), busy.all?(&:alive?)
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("[]\ntrue\n")
    end
  end
end
